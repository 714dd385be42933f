"""Routes under `/sandbox/` that inspect the sandbox and inject faults.

A fault is for a sibling's HTTP; to stop its events, pause its queue.
"""

import dataclasses
from functools import partial
from typing import Any

import msgspec
from flask import Response, request

from infra.local.sandbox import catalogue
from infra.local.sandbox.event_sink import EventSink
from infra.local.sandbox.product import set_stock
from infra.local.sandbox.routes import Route, body_field, complain, is_int, reply
from infra.local.sandbox.store import Store
from infra.local.sandbox.traffic import Fault, Traffic

SIBLINGS = ("shopcart", "product", "shop", "analytics", "sink")
SHOWN_CALLS = 200


def control_routes(store: Store, traffic: Traffic, sink: EventSink) -> list[Route]:
    """Return the routes, relative to `/sandbox`."""
    return [
        ("GET", "/events", partial(_list_events, sink)),
        ("GET", "/queues", partial(_list_queues, sink)),
        ("PUT", "/queues/<queue>", partial(_pause_or_resume, sink)),
        ("GET", "/calls", partial(_list_calls, traffic)),
        ("GET", "/faults", partial(_list_faults, traffic)),
        ("PUT", "/faults/<sibling>", partial(_break_sibling, traffic)),
        ("DELETE", "/faults/<sibling>", partial(_mend_sibling, traffic)),
        ("PUT", "/stock/<variation_id>", partial(_restock, store)),
        ("POST", "/reset", partial(_reset, store, traffic, sink)),
    ]


def decode_fault(body: object) -> Fault:
    """Return the fault; raise msgspec.ValidationError for what is none."""
    known = {field.name for field in dataclasses.fields(Fault)}
    if isinstance(body, dict) and (unknown := sorted(set(body) - known)):
        raise msgspec.ValidationError(f"{unknown[0]} is none of {sorted(known)}")
    return msgspec.convert(body, Fault)


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


def _pause_or_resume(sink: EventSink, queue: str) -> Response:
    if queue not in sink.queues():
        return complain(404, f"queues: {', '.join(sink.queues())}")
    paused = body_field("paused")
    if paused is True:
        sink.pause(queue)
    elif paused is False:
        sink.resume(queue)
    else:
        return complain(400, 'expected {"paused": true} or {"paused": false}')
    return reply(sink.queues()[queue])


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


def _reset(store: Store, traffic: Traffic, sink: EventSink) -> Response:
    traffic.clear_faults()
    traffic.forget()
    for queue in sink.queues():
        sink.resume(queue)
    store.clear()
    catalogue.fill_catalogue(store)
    return reply({})


def _decoded(body: bytes) -> Any:  # noqa: ANN401
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body.decode(errors="replace")
