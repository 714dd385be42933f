"""The calls of Pub/Sub's gRPC API, as far as the double has them.

Lives here: requests, answers, streams. Not here: what they do (`pubsub_state.py`,
`pubsub_backlog.py`). Surprise: there are no generated servicers in Google's package,
so each call is put together from its name and its two types.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
from google.pubsub_v1 import types

from tests.support import pubsub_rules as rules
from tests.support.pubsub_backlog import Backlog
from tests.support.pubsub_push import TICK_SECONDS
from tests.support.pubsub_state import State

PULL_SECONDS = 5.0  # then a pull that found nothing answers so
STREAM_MESSAGES = 1000  # in one answer

Handler = Any  # grpc's, which has no types
Call = Callable[[Any, Any], Any]


def handlers(state: State) -> list[Handler]:
    """Answer what a server needs to serve Publisher and Subscriber."""
    publisher, subscriber = _Publisher(state), _Subscriber(state)
    calls: dict[str, dict[str, Handler]] = {
        "Publisher": {
            "CreateTopic": _unary(publisher.create, types.Topic, types.Topic),
            "GetTopic": _unary(publisher.get, types.GetTopicRequest, types.Topic),
            "DeleteTopic": _unary(publisher.delete, types.DeleteTopicRequest),
            "ListTopics": _unary(
                publisher.list, types.ListTopicsRequest, types.ListTopicsResponse
            ),
            "Publish": _unary(
                publisher.publish, types.PublishRequest, types.PublishResponse
            ),
        },
        "Subscriber": {
            "CreateSubscription": _unary(
                subscriber.create, types.Subscription, types.Subscription
            ),
            "GetSubscription": _unary(
                subscriber.get, types.GetSubscriptionRequest, types.Subscription
            ),
            "DeleteSubscription": _unary(
                subscriber.delete, types.DeleteSubscriptionRequest
            ),
            "Pull": _unary(subscriber.pull, types.PullRequest, types.PullResponse),
            "Acknowledge": _unary(subscriber.acknowledge, types.AcknowledgeRequest),
            "ModifyAckDeadline": _unary(
                subscriber.modify, types.ModifyAckDeadlineRequest
            ),
            "StreamingPull": grpc.stream_stream_rpc_method_handler(
                _refusing_stream(subscriber.stream),
                types.StreamingPullRequest.deserialize,
                types.StreamingPullResponse.serialize,
            ),
        },
    }
    return [
        grpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", methods)
        for service, methods in calls.items()
    ]


def _unary(call: Call, request: Any, response: Any = None) -> Handler:
    """Put a call together; one without a response answers nothing."""

    def refusing(asked: Any, context: Any) -> Any:
        try:
            return call(asked, context)
        except rules.RefusedError as error:
            return context.abort(error.code, str(error))

    serialize = response.serialize if response else Empty.SerializeToString
    return grpc.unary_unary_rpc_method_handler(refusing, request.deserialize, serialize)


def _refusing_stream(call: Call) -> Call:
    def refusing(asked: Any, context: Any) -> Iterator[Any]:
        try:
            yield from call(asked, context)
        except rules.RefusedError as error:
            context.abort(error.code, str(error))

    return refusing


class _Publisher:
    """Calls about topics."""

    def __init__(self, state: State) -> None:
        self._state = state

    def create(self, request: types.Topic, _: Any) -> types.Topic:
        self._state.make_topic(request.name)
        return types.Topic(name=request.name)

    def get(self, request: types.GetTopicRequest, _: Any) -> types.Topic:
        self._state.check_topic(request.topic)
        return types.Topic(name=request.topic)

    def delete(self, request: types.DeleteTopicRequest, _: Any) -> Empty:
        self._state.drop_topic(request.topic)
        return Empty()

    def list(
        self, request: types.ListTopicsRequest, _: Any
    ) -> types.ListTopicsResponse:
        names = self._state.names(request.project)
        return types.ListTopicsResponse(topics=[types.Topic(name=n) for n in names])

    def publish(self, request: types.PublishRequest, _: Any) -> types.PublishResponse:
        return types.PublishResponse(message_ids=self._state.publish(request))


class _Subscriber:
    """Calls about subscriptions and what they hold."""

    def __init__(self, state: State) -> None:
        self._state = state

    def create(self, request: types.Subscription, _: Any) -> types.Subscription:
        return self._state.subscribe(request)

    def get(self, request: types.GetSubscriptionRequest, _: Any) -> types.Subscription:
        return self._state.backlog(request.subscription).settings

    def delete(self, request: types.DeleteSubscriptionRequest, _: Any) -> Empty:
        self._state.unsubscribe(request.subscription)
        return Empty()

    def acknowledge(self, request: types.AcknowledgeRequest, _: Any) -> Empty:
        self._state.acknowledge(request.subscription, request.ack_ids)
        return Empty()

    def modify(self, request: types.ModifyAckDeadlineRequest, _: Any) -> Empty:
        seconds = request.ack_deadline_seconds
        self._state.modify(request.subscription, request.ack_ids, seconds)
        return Empty()

    def pull(self, request: types.PullRequest, context: Any) -> types.PullResponse:
        if request.max_messages <= 0:
            raise rules.invalid("max_messages must be above 0.")
        state, patience = self._state, 0 if request.return_immediately else PULL_SECONDS
        until = time.monotonic() + patience
        with state.changed:
            while context.is_active():
                backlog = self._pulled(request.subscription)
                seconds = backlog.settings.ack_deadline_seconds
                taken = backlog.take(request.max_messages, seconds)
                if taken or state.closing.is_set() or time.monotonic() >= until:
                    received = [backlog.received(entry) for entry in taken]
                    return types.PullResponse(received_messages=received)
                state.changed.wait(TICK_SECONDS)
        return types.PullResponse()

    def stream(
        self, requests: Iterator[types.StreamingPullRequest], context: Any
    ) -> Iterator[types.StreamingPullResponse]:
        state, first = self._state, next(requests)
        if first.stream_ack_deadline_seconds not in rules.DEADLINES:
            raise rules.invalid("The ack deadline must be 10 to 600 seconds.")
        with state.changed:
            settings = self._pulled(first.subscription).settings
        yield types.StreamingPullResponse(
            subscription_properties={
                "message_ordering_enabled": settings.enable_message_ordering
            }
        )
        reader = threading.Thread(target=self._read, args=(first, requests))
        state.threads.append(reader)
        reader.start()
        out: set[str] = set()
        while reader.is_alive() and context.is_active():
            with state.changed:
                backlog = self._pulled(first.subscription)
                out = {ack_id for ack_id in out if backlog.is_out(ack_id)}
                room = (first.max_outstanding_messages or STREAM_MESSAGES) - len(out)
                taken = backlog.take(room, first.stream_ack_deadline_seconds)
                out |= {entry.ack_id for entry in taken}
                received = [backlog.received(entry) for entry in taken]
                if not taken:
                    state.changed.wait(TICK_SECONDS)
            if received:
                yield types.StreamingPullResponse(received_messages=received)

    def _read(
        self,
        first: types.StreamingPullRequest,
        requests: Iterator[types.StreamingPullRequest],
    ) -> None:
        """Do what a stream's client asks for, until it ends or the call does."""
        name, state = first.subscription, self._state
        with contextlib.suppress(grpc.RpcError, rules.RefusedError):
            for request in requests:
                state.acknowledge(name, request.ack_ids)
                for ack_id, seconds in zip(
                    request.modify_deadline_ack_ids,
                    request.modify_deadline_seconds,
                    strict=False,
                ):
                    state.modify(name, [ack_id], seconds)

    def _pulled(self, name: str) -> Backlog:
        """Answer a subscription that may be pulled from, as it now is."""
        self._state.expire()
        backlog = self._state.backlog(name)
        if backlog.is_push:
            text = "This method is not supported for this subscription type."
            raise rules.RefusedError(grpc.StatusCode.FAILED_PRECONDITION, text)
        return backlog
