"""Histories of one variation's stock: what is sold, and what is really there.

The product service, its queue and time are played here; holds are the database's own.
Time passes by making the rows older.
"""

import itertools
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pg8000.exceptions
import pg8000.native

from common.store.holds import CAP_SECONDS, LONGEST_SECONDS

SETTLE_SECONDS = 5
PAUSES = (1, 2, 5, 30, 240, CAP_SECONDS + 1)
Step = tuple[str, int]


class Holds:
    """The holds of one variation in a database, which has those of others, too."""

    _orders = itertools.count(1)

    def __init__(self, connection: pg8000.native.Connection) -> None:
        self._connection = connection
        self._variation = str(uuid.uuid4())

    def now(self) -> datetime:
        """Return the database's time."""
        [[now]] = self._connection.run("SELECT clock_timestamp()")
        assert isinstance(now, datetime)
        return now

    def hold(self, quantity: int, amount: int, read_at: datetime) -> int:
        """Hold it for a new order; return the order's id, 0 if there is too little."""
        order = next(self._orders)
        asked = {
            "event_id": str(uuid.uuid4()),
            "destinations": 1,
            "read_at": read_at.isoformat(),
            "settle": f"{SETTLE_SECONDS}s",
            "cap": f"{CAP_SECONDS}s",
            "longest": f"{LONGEST_SECONDS}s",
            "lines": [
                {
                    "item_id": order,
                    "variation": self._variation,
                    "quantity": quantity,
                    "amount": amount,
                }
            ],
        }
        try:
            self._connection.run(
                "SELECT hold_stock(:order, :asked)", order=order, asked=asked
            )
        except pg8000.exceptions.DatabaseError as error:
            if error.args[0].get("n") != "stock_is_settling":
                raise
            return 0
        return order

    def confirm(self, order: int) -> None:
        """Record that the order's event has been sent."""
        self._connection.run(
            "UPDATE stock_holds SET confirmed_at = clock_timestamp()"
            " WHERE order_id = :order",
            order=order,
        )

    def release(self, order: int) -> None:
        """Record that the order was cancelled."""
        self._connection.run(
            "UPDATE stock_holds SET released_at = clock_timestamp()"
            " WHERE order_id = :order AND seen_at IS NULL",
            order=order,
        )

    def look(self, amount: int, read_at: datetime) -> None:
        """Take note of an amount that was read, but not to sell any of it."""
        self._connection.run(
            "SELECT settle_stock(CAST(:variation AS uuid), CAST(:amount AS bigint),"
            " CAST(:read_at AS timestamptz),"
            " make_interval(secs => :settle), make_interval(secs => :cap),"
            " make_interval(secs => :longest))",
            variation=self._variation,
            amount=amount,
            read_at=read_at,
            settle=SETTLE_SECONDS,
            cap=CAP_SECONDS,
            longest=LONGEST_SECONDS,
        )

    def age(self, seconds: int) -> None:
        """Make all rows older."""
        self._connection.run(
            "UPDATE stock_holds SET created_at = created_at - age,"
            " confirmed_at = confirmed_at - age, released_at = released_at - age,"
            " seen_at = seen_at - age, counted_at = counted_at - age"
            " FROM make_interval(secs => :seconds) AS age"
            " WHERE product_variation = CAST(:variation AS uuid)",
            seconds=seconds,
            variation=self._variation,
        )


@dataclass
class Order:
    """What became of an order, and when; None: not yet."""

    id: int
    quantity: int
    confirmed_at: int | None = None
    cancelled_at: int | None = None
    lowered_in: int | None = None  # which step
    is_published: bool = False
    # A restock came between the order and the first look that found it lowered. From
    # the amount alone nobody can tell then.
    is_blurred: bool = False
    is_seen: bool = False

    def is_gone(self, at: int) -> bool:
        """Return whether it was cancelled, and has settled since."""
        return self.cancelled_at is not None and settled(self.cancelled_at, at)

    def is_fresh(self, at: int) -> bool:
        """Return whether an amount read then may be older than its lowering."""
        return self.confirmed_at is None or not settled(self.confirmed_at, at)

    def is_capped(self, at: int) -> bool:
        """Return whether it is too long ago to be waited for."""
        return self.confirmed_at is not None and self.confirmed_at + CAP_SECONDS <= at


def settled(since: int, at: int) -> bool:
    """Return whether what was so then had settled."""
    return since + SETTLE_SECONDS <= at


@dataclass
class Read:
    """The amount as it was read."""

    amount: int
    at: int
    step: int
    clock: datetime
    restocks: int

    def shows(self, order: Order) -> bool:
        """Return whether the order's lowering is in the amount."""
        return order.lowered_in is not None and order.lowered_in <= self.step


@dataclass
class History:
    """One variation's history; each step does nothing where it makes no sense."""

    holds: Holds
    amount: int
    at: int = 0
    step: int = 0
    put_in: int = 0
    restocks: int = 0
    orders: list[Order] = field(default_factory=list)
    queue: deque[Order] = field(default_factory=deque)
    reads: dict[int, Read] = field(default_factory=dict)
    refusals: int = 0

    def __post_init__(self) -> None:
        self.put_in = self.amount

    def play(self, steps: Sequence[Step]) -> None:
        """Do the steps; fails where more is sold than was there, or less than is."""
        ways: dict[str, Callable[[int], None]] = {
            "buy": self.buy,
            "read": self.read,
            "write": self.write,
            "send": self.send,
            "publish": self.publish,
            "confirm": self.confirm,
            "lower": self.lower,
            "cancel": self.cancel,
            "restock": self.restock,
            "look": self.look,
            "race": self.race,
            "pass": self.let_pass,
        }
        for name, number in steps:
            self.step += 1
            ways[name](number)
        self.send(len(self.orders))
        self.lower(len(self.queue))
        if not any(order.cancelled_at is not None for order in self.orders):
            assert self.amount >= 0, "stock is below zero"

    # Buyers.

    def buy(self, quantity: int) -> None:
        """Read the amount, and order."""
        self._write(self._read(), quantity)

    def read(self, slot: int) -> None:
        """Read the amount, for a buyer who takes a while."""
        self.reads[slot % 2] = self._read()

    def write(self, quantity: int) -> None:
        """Order by an amount that was read some time ago."""
        read = self.reads.pop(quantity % 2, None)
        if read and self.at - read.at < LONGEST_SECONDS:
            self._write(read, quantity)

    def race(self, quantity: int) -> None:
        """Have two ask; the one who is told before stock is lowered orders last."""
        asked = [self.holds.now() for _ in range(2)]
        slow, fast = asked if quantity % 2 else reversed(asked)
        early = self._read(slow)
        self.step += 1
        self.lower(1)
        self._write(self._read(fast), 1)
        self._write(early, quantity)

    def _read(self, asked: datetime | None = None) -> Read:
        clock = asked or self.holds.now()
        return Read(self.amount, self.at, self.step, clock, self.restocks)

    def _write(self, read: Read, quantity: int) -> None:
        if not 0 < quantity <= read.amount:  # the cart is repaired instead
            return
        if id_ := self.holds.hold(quantity, read.amount, read.clock):
            order = Order(id_, quantity)
            order.is_blurred = read.restocks != self.restocks or any(
                o.is_blurred and not o.is_seen for o in self.orders
            )
            self.orders.append(order)
            self._see(read)
        else:
            self.refusals += 1
            self._judge(read, quantity)
        live = sum(o.quantity for o in self.orders if o.cancelled_at is None)
        assert live <= self.put_in, "more is sold than was put in"

    def _judge(self, read: Read, quantity: int) -> None:
        """Fail where what is really there is refused although nothing is unsettled."""
        at = read.at
        out = [o for o in self.orders if not read.shows(o)]
        counting = [o for o in self.orders if not o.is_gone(at) and not o.is_capped(at)]
        if read.amount - sum(o.quantity for o in out if not o.is_gone(at)) >= quantity:
            assert counting, "refused although nothing is held"
        if read.amount - sum(o.quantity for o in out) >= quantity:
            unsettled = [
                o
                for o in counting
                if o.is_fresh(at) or (o.is_blurred and not o.is_seen)
            ]
            assert unsettled, "refused although everything has been seen"

    def _see(self, read: Read) -> None:
        """Take note of which orders' lowering shows in the amount."""
        for order in self.orders:
            if not read.shows(order):
                return
            if not order.is_fresh(read.at) and not order.is_blurred:
                order.is_seen = True

    # Events, and who hears of them.

    def send(self, count: int) -> None:
        """Publish and confirm the events of the oldest orders that have not been."""
        for order in [o for o in self.orders if o.confirmed_at is None][:count]:
            self._publish(order)
            self._confirm(order)

    def publish(self, index: int) -> None:
        """Publish the event of some order, which nobody knows to be confirmed yet."""
        if waiting := [o for o in self.orders if not o.is_published]:
            self._publish(waiting[index % len(waiting)])

    def confirm(self, index: int) -> None:
        """Confirm such an event."""
        waiting = [o for o in self.orders if o.confirmed_at is None and o.is_published]
        if waiting:
            self._confirm(waiting[index % len(waiting)])

    def _publish(self, order: Order) -> None:
        if not order.is_published:
            order.is_published = True
            self.queue.append(order)

    def _confirm(self, order: Order) -> None:
        if order.confirmed_at is None:
            order.confirmed_at = self.at
            self.holds.confirm(order.id)

    def lower(self, count: int) -> None:
        """Have the product service hear of so many orders."""
        for _ in range(min(count, len(self.queue))):
            order = self.queue.popleft()
            order.lowered_in = self.step
            self.amount -= order.quantity

    # Whatever else happens.

    def cancel(self, index: int) -> None:
        """Cancel some order."""
        if live := [o for o in self.orders if o.cancelled_at is None]:
            order = live[index % len(live)]
            order.cancelled_at = self.at
            self.holds.release(order.id)

    def restock(self, quantity: int) -> None:
        """Put more in."""
        self.amount += quantity
        self.put_in += quantity
        self.restocks += 1
        for order in self.orders:
            order.is_blurred = order.is_blurred or not order.is_seen

    def look(self, _: int) -> None:
        """Have the sweep read the amount."""
        read = self._read()
        self.holds.look(read.amount, read.clock)
        self._see(read)

    def let_pass(self, index: int) -> None:
        """Let time pass; the consumer is never as late as nobody waits for it."""
        seconds = PAUSES[index % len(PAUSES)]
        while any(
            order.confirmed_at is not None
            and order.confirmed_at + CAP_SECONDS <= self.at + seconds
            for order in self.queue
        ):
            self.lower(1)
        self.at += seconds
        self.holds.age(seconds)
        for read in self.reads.values():
            read.clock -= timedelta(seconds=seconds)
