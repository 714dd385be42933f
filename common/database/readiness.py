"""Readiness: whether the database is ready for this release and this function.

`RIGHTS` is what each function's login may do to each table: what its work needs, and no
more. `orderctl migrate --grant-to` grants it, and `/health/ready` asks for it. As with
migrations, it has to suffice for the release before as well, while both run.
"""

from collections.abc import Iterable, Iterator, Mapping

from common.database.engine import Engine, connect, named, read
from common.errors import DatabaseUnavailableError

# The oldest schema with everything that this code uses; it runs on every later one.
NEEDED_REVISION = "0014"
# The newest that this release makes; a later one was made by a later release.
NEWEST_REVISION = "0014"

REVISION = named(
    "readiness.revision", "SELECT coalesce(max(version_num), '') FROM alembic_version"
)

# The letters that PostgreSQL itself lists rights with.
NAMES = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}
# Append-only but for these columns: how an action ended is known later.
COLUMNS = {("operator_actions", "w"): ("outcome", "order_id")}

Rights = Mapping[str, str]  # letters by table

# Nobody updates or deletes history or sent events, save retention, which deletes sent
# ones; nobody deletes what operators did.
_ALWAYS: Rights = {
    "alembic_version": "r",
    "user_requests": "rawd",  # the release before writes to it, until it is dropped
}
# To record events with a write, publish them right after, and record the results.
_EVENTS: Rights = {
    "outbox": "rawd",
    "outbox_marks": "r",
    "sent_events": "a",
    "dead_letters": "a",
    "stock_holds": "rw",  # confirmed
}
# To take from stock, which forgets holds that no longer count.
_HOLDS: Rights = {"stock_holds": "rawd"}
# One statement saves any change of an order; it names all that it might write.
_CHANGE: Rights = {
    "stock_holds": "rw",  # released
    "orders": "rw",
    "order_items": "rawd",
    "order_history": "a",
    "deleted_items": "a",
    "idempotency_records": "a",
}


# To look keys up, and to save a new order.
_NEW_ORDER: Rights = {"ordered_lines": "ra"}


def _together(*parts: Rights) -> dict[str, str]:
    """Return the rights of all parts, in the order of `NAMES`."""
    tables = dict.fromkeys(table for part in parts for table in part)
    given = {t: {letter for p in parts for letter in p.get(t, "")} for t in tables}
    return {t: "".join(x for x in NAMES if x in given[t]) for t in tables}


_RELAY = _together(
    _EVENTS,
    _CHANGE,
    {
        "order_history": "r",
        "outbox_marks": "raw",
        "destination_reports": "raw",
        "sent_events": "rd",
        "dead_letters": "rd",
        "idempotency_records": "rd",
        "ledger_seals": "raw",
        "stock_holds": "d",  # of what nobody buys
        "retention": "rw",
    },
)
_CONSOLE = _together(
    _EVENTS,
    _CHANGE,
    _HOLDS,
    {
        "orders": "d",
        "order_history": "r",
        "sent_events": "r",
        "dead_letters": "rw",
        "destination_reports": "r",
        "deleted_items": "r",
        "operator_actions": "raw",
    },
)
RIGHTS: Mapping[str, Rights] = {
    name: _together(_ALWAYS, *parts)
    for name, parts in {
        "create_order_from_cart": (
            _EVENTS,
            _HOLDS,
            _NEW_ORDER,
            {
                "orders": "ra",
                "order_items": "a",
                "order_history": "a",
                "idempotency_records": "rad",
            },
        ),
        "orders_crud": (
            _EVENTS,
            _CHANGE,
            _HOLDS,
            _NEW_ORDER,
            {
                "orders": "ad",
                "order_history": "r",
                "sent_events": "r",
                "idempotency_records": "rd",
            },
        ),
        # Closes the shop's row of an item that its owner has cancelled or deleted.
        "item_status": (
            _EVENTS,
            _CHANGE,
            {"order_history": "r", "deleted_items": "r"},
        ),
        "approval_handler": (_EVENTS, _CHANGE),
        "outbox_relay": (_RELAY,),
        "ops_console": (_CONSOLE,),
        "orderctl": (_RELAY, _CONSOLE),
    }.items()
}
_NEW_IDS = {"orders_id_seq": "USAGE", "order_items_id_seq": "USAGE"}
# Those that a statement names. A default draws from its sequence without any right.
SEQUENCES: Mapping[str, Mapping[str, str]] = {
    "create_order_from_cart": _NEW_IDS,
    "orders_crud": _NEW_IDS,
    "outbox_relay": {"outbox_id_seq": "USAGE"},
    "ops_console": {"order_items_id_seq": "USAGE"},  # of an item that is added
    # After a restore it moves each of them.
    "orderctl": {
        f"{table}_id_seq": "USAGE, UPDATE"
        for table in (
            *("orders", "order_items", "order_history", "outbox", "dead_letters"),
            *("operator_actions", "stock_holds"),
        )
    },
}
# What one login for all functions needs, which is not also the operators'.
FUNCTIONS = tuple(name for name in RIGHTS if name != "orderctl")


def on_tables(functions: Iterable[str]) -> dict[str, str]:
    """Return the letters of each table that these functions need together."""
    return _together(*(RIGHTS[name] for name in functions))


def on_sequences(functions: Iterable[str]) -> dict[str, str]:
    """Return the rights on each sequence that these functions need together."""
    found: dict[str, str] = {}
    for name in functions:
        for sequence, rights in SEQUENCES.get(name, {}).items():
            found[sequence] = max(found.get(sequence, ""), rights, key=len)
    return found


def grants(functions: Iterable[str], role: str) -> Iterator[str]:
    """Yield the statements that grant these functions' rights to a quoted role."""
    names = tuple(functions)
    for table, letters in on_tables(names).items():
        what = ", ".join(_right(table, letter) for letter in letters)
        yield f"GRANT {what} ON {table} TO {role}"
    for sequence, rights in on_sequences(names).items():
        yield f"GRANT {rights} ON SEQUENCE {sequence} TO {role}"


def _right(table: str, letter: str) -> str:
    columns = COLUMNS.get((table, letter))
    return NAMES[letter] + (f" ({', '.join(columns)})" if columns else "")


_CHECK = named(
    "readiness.check",
    """
SELECT
  (SELECT coalesce(max(version_num), '') FROM alembic_version),
  CAST(current_setting('transaction_read_only') AS boolean),  -- true on a standby, too
  ARRAY(
    SELECT DISTINCT name
    FROM unnest(CAST(:tables AS text[]), CAST(:rights AS text[])) AS q(name, needed)
    WHERE NOT CASE needed WHEN 'DELETE' THEN has_table_privilege(name, needed)
      ELSE has_any_column_privilege(name, needed) END
    UNION ALL
    SELECT name FROM unnest(CAST(:sequences AS text[])) name
    WHERE NOT has_sequence_privilege(name, 'USAGE'))
""",
)


def check(engine: Engine, function: str) -> None:
    """Raise DatabaseUnavailableError or BusyError unless it is ready for `function`."""
    needed = [
        (table, NAMES[letter])
        for table, letters in RIGHTS[function].items()
        for letter in letters
        if table != "user_requests"  # which a later release drops
    ]
    parameters = {
        "tables": [table for table, _ in needed],
        "rights": [right for _, right in needed],
        "sequences": list(on_sequences([function])),
    }
    with connect(engine) as connection:
        revision, is_read_only, not_granted = read(connection, _CHECK, parameters).one()
        if is_read_only or not_granted:
            connection.invalidate()
    if is_read_only or not_granted:
        engine.dispose()  # new sessions may reach a writable server, or have the rights
    if is_read_only:
        raise DatabaseUnavailableError("The database takes no writes.")
    if revision < NEEDED_REVISION:
        raise DatabaseUnavailableError(
            f"The database's schema is at {revision or 'nothing'}, and this release"
            f" needs {NEEDED_REVISION}: run orderctl migrate."
        )
    if not_granted:
        raise DatabaseUnavailableError(
            f"The database's login lacks rights on {', '.join(not_granted)}:"
            f" run orderctl migrate --grant-to {function}=LOGIN."
        )
