"""What Google's emulator does otherwise than the documentation says.

Lives here: which test or case of tests/pubsub it fails, and why. Not here: the mark
that comes of it (tests/pubsub/conftest.py). Surprise: a gap that closes fails its test.
"""

from typing import NamedTuple

# What the emulator (0.8.20) does otherwise: of a test, or of one case of it. Those that
# it does "at times" may pass, too; the others must not.
EMULATOR_GAPS = {
    "test_a_dead_letter_lets_the_others_of_its_key_pass": "at times: key out of order",
    "test_a_filter_lets_through_what_matches": "it ignores filters",
    "test_a_key_waits_for_the_backoff_of_its_first": "it gives back at once",
    "test_a_push_carries_a_token": "it sends no token",
    "test_a_push_is_the_documented_json": "it leaves the ordering key out of a push",
    "test_a_push_that_gets_a_wrong_2xx_comes_again": "203 is a success to it",
    "test_a_push_tells_its_attempt_until_it_is_given_up": "a push tells no attempt",
    "test_a_retry_policy_doubles_the_wait_up_to_its_longest": "it gives back at once",
    "test_a_stream_has_no_more_out_than_it_asks_for": "it ignores a stream's limit",
    "test_metadata_of_an_unwrapped_push_are_headers": "it has x-goog-ordering-key",
    "test_nobody_gets_more_than_ten_minutes": "it extends by any time",
    "test_the_vendors_client_subscribes": "after a redelivery no later one follows",
    "test_what_is_no_filter_is_refused": "it ignores filters",
    "test_what_is_pushed_cannot_be_pulled": "it lets both have messages",
    "test_with_one_message_the_later_ones_of_its_key_come_again": "only that one does",
    **{
        f"test_what_no_message_may_be_is_refused[{case}]": "it has no such limit"
        for case in (
            "101 attributes",
            "a long attribute key",
            "a long attribute value",
            "a long value in bytes",
            "a long ordering key",
            "too long",
            "too long together",
            "two ordering keys",
        )
    },
    **{
        f"test_what_no_subscription_may_be_is_refused[{case}]": "it takes it"
        for case in ("a short deadline", "a malformed filter")
    },
}


class Gap(NamedTuple):
    """Why a test fails with the emulator; one that is not steady may pass, too."""

    reason: str
    is_steady: bool


def gap_of(test: str, case: str) -> Gap | None:
    """Answer the gap of a test, or of one case of it, `test[case]`, if there is one."""
    reason = EMULATOR_GAPS.get(test, EMULATOR_GAPS.get(case))
    if reason is None:
        return None
    return Gap(f"the emulator: {reason}", not reason.startswith("at times"))
