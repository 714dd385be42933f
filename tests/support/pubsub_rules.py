"""What Pub/Sub refuses: limits and forms of topics, messages and subscriptions.

Lives here: checks of requests, each refused with the service's own status. Not here:
what becomes of what passes (`pubsub_backlog.py`). Surprise: the limits are counted in
bytes of UTF-8, and the one on a whole request hits before that on a message's data.
"""

import re
from datetime import timedelta

import grpc  # type: ignore[import-untyped]
from google.pubsub_v1 import types

from tests.support.pubsub_filters import BadFilterError, parsed

LONGEST_REQUEST = 10_000_000  # bytes
MOST_MESSAGES = 1000
MOST_ATTRIBUTES = 100
LONGEST_KEY = 256
LONGEST_VALUE = 1024
LONGEST_ORDERING_KEY = 1024
DEADLINES = range(10, 601)  # a subscription's
EXTENSIONS = range(601)  # a message's; 0 gives it back
ATTEMPTS = range(5, 101)
LONGEST_BACKOFF = timedelta(seconds=600)
_NAME = re.compile(
    r"projects/[^/]+/(topics|subscriptions)/(?!goog)[A-Za-z][-\w.~+%]{2,254}", re.ASCII
)


class RefusedError(Exception):
    """A call ends with `code`."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def invalid(text: str) -> RefusedError:
    """Answer what a malformed request is refused with."""
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, text)


def missing(name: str) -> RefusedError:
    """Answer what a request for something unknown is refused with."""
    text = f"Resource not found (resource={name.rpartition('/')[2]})."
    return RefusedError(grpc.StatusCode.NOT_FOUND, text)


def taken(name: str) -> RefusedError:
    """Answer what making something twice is refused with."""
    text = f"Resource already exists in the project (resource={name})."
    return RefusedError(grpc.StatusCode.ALREADY_EXISTS, text)


def check_name(name: str, collection: str) -> None:
    """Check a full name, of `topics` or `subscriptions`."""
    found = _NAME.fullmatch(name)
    if found is None or found[1] != collection:
        raise invalid(f"Invalid resource name given (name={name}).")


def check_publish(request: types.PublishRequest) -> None:
    """Check all messages of a request, of which all go or none."""
    size = types.PublishRequest.pb(request).ByteSize()
    if size > LONGEST_REQUEST:
        raise invalid(
            "The value for request_size is too large. You passed"
            f" {size} in the request, but the maximum value is {LONGEST_REQUEST}."
        )
    if not 0 < len(request.messages) <= MOST_MESSAGES:
        raise invalid(f"A request has 1 to {MOST_MESSAGES} messages.")
    for message in request.messages:
        _check_message(message)
    if len({message.ordering_key for message in request.messages}) > 1:
        raise invalid("All messages of a request must have the same ordering key.")


def _check_message(message: types.PubsubMessage) -> None:
    if not message.data and not message.attributes:
        raise invalid("Some messages in the batch are empty: no data, no attributes.")
    if len(message.attributes) > MOST_ATTRIBUTES:
        raise invalid(f"A message has at most {MOST_ATTRIBUTES} attributes.")
    for key, value in message.attributes.items():
        if len(key.encode()) > LONGEST_KEY:
            raise invalid(f"An attribute's key has at most {LONGEST_KEY} bytes.")
        if len(value.encode()) > LONGEST_VALUE:
            raise invalid(f"An attribute's value has at most {LONGEST_VALUE} bytes.")
    if len(message.ordering_key.encode()) > LONGEST_ORDERING_KEY:
        raise invalid(f"An ordering key has at most {LONGEST_ORDERING_KEY} bytes.")


def completed(asked: types.Subscription) -> types.Subscription:
    """Check what a subscription is asked to be; answer it with the defaults."""
    check_name(asked.name, "subscriptions")
    made = types.Subscription(types.Subscription.pb(asked))
    made.ack_deadline_seconds = made.ack_deadline_seconds or DEADLINES[0]
    if made.ack_deadline_seconds not in DEADLINES:
        raise invalid("The ack deadline must be 10 to 600 seconds.")
    try:
        parsed(made.filter)
    except BadFilterError as error:
        raise invalid(f"The filter is malformed: {error}.") from None
    if "dead_letter_policy" in made:
        policy = made.dead_letter_policy
        check_name(policy.dead_letter_topic, "topics")
        policy.max_delivery_attempts = policy.max_delivery_attempts or ATTEMPTS[0]
        if policy.max_delivery_attempts not in ATTEMPTS:
            raise invalid("Delivery attempts must be 5 to 100.")
    if "retry_policy" in made:
        _complete_backoff(made.retry_policy)
    endpoint = made.push_config.push_endpoint
    if endpoint and not re.match("https?://[^/]", endpoint):
        raise invalid(f"Invalid push endpoint given (endpoint={endpoint}).")
    types.Subscription.pb(made).state = types.Subscription.State.ACTIVE
    return made


def _complete_backoff(policy: types.RetryPolicy) -> None:
    if "minimum_backoff" not in policy:
        policy.minimum_backoff = timedelta(seconds=10)
    if "maximum_backoff" not in policy:
        policy.maximum_backoff = LONGEST_BACKOFF
    shortest, longest = policy.minimum_backoff, policy.maximum_backoff
    if not timedelta() <= shortest <= longest <= LONGEST_BACKOFF:
        raise invalid("Backoffs must be 0 to 600 seconds, the minimum the shorter.")


def check_extension(seconds: int) -> None:
    """Check the new deadline of messages that are out."""
    if seconds not in EXTENSIONS:
        raise invalid("The ack deadline must be 0 to 600 seconds.")
