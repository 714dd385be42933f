"""Routes under `/sandbox/` that inspect the sandbox, switch behaviour, inject faults.

A fault is for a sibling's HTTP; to stop or delay its events, change its queue.
"""

import dataclasses
import json
from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any

import msgspec
from flask import Response, request

from infra.local.pages import render
from infra.local.sandbox import catalogue
from infra.local.sandbox.event_sink import EventSink
from infra.local.sandbox.product import ReadCache, set_stock
from infra.local.sandbox.routes import Route, body_field, complain, is_int, reply
from infra.local.sandbox.store import Store
from infra.local.sandbox.switches import Switches
from infra.local.sandbox.traffic import Fault, Traffic

SIBLINGS = ("shopcart", "product", "shop", "analytics", "sink")
SHOWN_CALLS = 200


Seconds = Annotated[float, msgspec.Meta(ge=0)]
# No tuple: msgspec misreads its length in a union.
Range = Annotated[list[Seconds], msgspec.Meta(min_length=2, max_length=2)]


class QueueChange(msgspec.Struct, forbid_unknown_fields=True):
    """What may be changed of a queue; a pair of delays is a range."""

    paused: bool | msgspec.UnsetType = msgspec.UNSET
    delay_seconds: Seconds | Range | msgspec.UnsetType = msgspec.UNSET


def control_routes(
    store: Store,
    traffic: Traffic,
    sink: EventSink,
    switches: Switches,
    caches: Iterable[ReadCache],
) -> list[Route]:
    """Return the routes, relative to `/sandbox`."""
    at_first = msgspec.structs.replace(switches)

    def reset() -> Response:
        traffic.clear_faults()
        traffic.forget()
        sink.reset()
        switches.set(at_first)
        store.clear()
        for cache in caches:
            cache.clear()
        catalogue.fill_catalogue(store)
        return reply({})

    return [
        ("GET", "/", partial(_show_page, sink, switches)),
        ("GET", "/switches", lambda: reply(switches)),
        ("PUT", "/switches", partial(_set_switches, switches)),
        ("GET", "/events", partial(_list_events, sink)),
        ("GET", "/queues", partial(_list_queues, sink)),
        ("PUT", "/queues/<queue>", partial(_change_queue, sink)),
        ("GET", "/calls", partial(_list_calls, traffic)),
        ("GET", "/faults", partial(_list_faults, traffic)),
        ("PUT", "/faults/<sibling>", partial(_break_sibling, traffic)),
        ("DELETE", "/faults/<sibling>", partial(_mend_sibling, traffic)),
        ("PUT", "/stock/<variation_id>", partial(_restock, store)),
        ("POST", "/reset", reset),
    ]


def decode_fault(body: object) -> Fault:
    """Return the fault; raise msgspec.ValidationError for what is none."""
    known = {field.name for field in dataclasses.fields(Fault)}
    if isinstance(body, dict) and (unknown := sorted(set(body) - known)):
        raise msgspec.ValidationError(f"{unknown[0]} is none of {sorted(known)}")
    return msgspec.convert(body, Fault)


DELAYS = ((0, 0), (1, 1), (5, 5), (0, 0.5), (0, 3), (0, 10))


def _show_page(sink: EventSink, switches: Switches) -> Response:
    """Return the page of switches, for people."""
    queues = sink.queues()
    delays = {
        name: {
            json.dumps({"delay_seconds": delay}): _in_words(*delay)
            for delay in dict.fromkeys((*DELAYS, queue["delay_seconds"]))
        }
        for name, queue in queues.items()
    }
    page = render(
        "sandbox",
        queues=queues,
        delays=delays,
        delayed={name: _in_words(*q["delay_seconds"]) for name, q in queues.items()},
        switches=msgspec.to_builtins(switches),
        url=request.host_url,
    )
    return Response(page, mimetype="text/html")


def _in_words(shortest: float, longest: float) -> str:
    if not longest:
        return "at once"
    if shortest == longest:
        return f"after {longest:g} s"
    return f"after {shortest:g} to {longest:g} s"


def _list_events(sink: EventSink) -> Response:
    events = sink.events(request.args.get("limit", 100, type=int))
    return reply(
        [
            {
                "id": event.id,
                "type": event.type,
                "attributes": event.attributes,
                "body": _decoded(event.body),
            }
            for event in reversed(events)
        ]
    )


def _list_queues(sink: EventSink) -> Response:
    return reply(sink.queues())


def _change_queue(sink: EventSink, queue: str) -> Response:
    if queue not in sink.queues():
        return complain(404, f"queues: {', '.join(sink.queues())}")
    try:
        change = msgspec.convert(request.get_json(silent=True), QueueChange)
    except msgspec.ValidationError as error:
        return complain(400, str(error))
    if change == QueueChange():
        return complain(400, "expected paused or delay_seconds")
    if change.delay_seconds is not msgspec.UNSET:
        delay = change.delay_seconds
        shortest, longest = delay if isinstance(delay, list) else (delay, delay)
        if shortest > longest:
            return complain(400, "expected delay_seconds from the shortest")
        sink.set_delay(queue, shortest, longest)
    if change.paused is True:
        sink.pause(queue)
    elif change.paused is False:
        sink.resume(queue)
    return reply(sink.queues()[queue])


def _set_switches(switches: Switches) -> Response:
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or not body:
        return complain(
            400, f"expected some of {', '.join(Switches.__struct_fields__)}"
        )
    try:
        changed = msgspec.convert(msgspec.to_builtins(switches) | body, Switches)
    except msgspec.ValidationError as error:
        return complain(400, str(error))
    switches.set(changed)
    return reply(switches)


def _list_calls(traffic: Traffic) -> Response:
    calls = traffic.calls()
    if sibling := request.args.get("sibling"):
        calls = [call for call in calls if call.sibling == sibling]
    return reply(
        [
            {
                "sibling": call.sibling,
                "method": call.method,
                "path": call.path,
                "status": call.status,
                "milliseconds": round((call.ended_at - call.began_at) * 1000, 1),
                "headers": dict(call.headers),
            }
            for call in reversed(calls[-SHOWN_CALLS:])
        ]
    )


def _list_faults(traffic: Traffic) -> Response:
    return reply(traffic.faults())


def _break_sibling(traffic: Traffic, sibling: str) -> Response:
    if sibling not in SIBLINGS:
        return complain(404, f"siblings: {', '.join(SIBLINGS)}")
    try:
        fault = decode_fault(request.get_json(silent=True))
    except msgspec.ValidationError as error:
        return complain(400, str(error))
    traffic.clear_faults(sibling)
    traffic.add_fault(sibling, fault)
    return reply(fault)


def _mend_sibling(traffic: Traffic, sibling: str) -> Response:
    traffic.clear_faults(sibling)
    return reply({})


def _restock(store: Store, variation_id: str) -> Response:
    amount = body_field("amount")
    if not is_int(amount):
        return complain(400, 'expected {"amount": 100}')
    if not set_stock(store, variation_id, amount):
        return complain(404, "Variation not found")
    return reply({"id": variation_id, "amount": amount})


def _decoded(body: bytes) -> Any:  # noqa: ANN401
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body.decode(errors="replace")
