"""What others wrote reaches an operator's terminal in print, from every command."""

from tests.support.audited import Tampering
from tests.support.nasty import NASTY, raw
from tests.support.orderctl import COMMANDS, NOBODY, orderctl


def quoted(text: str) -> str:
    """Return an SQL literal, also for `spoil`, which formats its statements."""
    return "'" + text.replace("'", "''") + "'"


N = quoted(NASTY)
EVENT = f"{{owed}}, '{NOBODY}', {N}, {N}"
PLANTED = (
    (
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body,"
        f" traceparent, last_error, attempts) VALUES ({N}, {EVENT}, {N}, {N}, 9)"
    ),
    (
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body,"
        " last_error, held_since, doubts)"
        f" VALUES ('http', {EVENT}, {N}, now(), 1)"
    ),
    (
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body,"
        " last_error, available_at, sending_since)"
        f" VALUES ('analytics', {EVENT}, {N}, now(), now())"
    ),
    (
        "INSERT INTO sent_events (id, destination, order_id, event_id, event_type,"
        f" body, traceparent, doubts) VALUES (-1, {N}, {EVENT}, {N}, 1)"
    ),
    (
        "INSERT INTO dead_letters (source, reason, destination, order_id, event_id,"
        f" event_type, headers, body) VALUES ('outbox', {N}, {N}, {{owed}}, {N}, {N},"
        f" jsonb_build_object({N}, {N}, 'attempts', 3),"
        f" convert_to({N}, 'UTF8'))"
    ),
    (
        "INSERT INTO dead_letters (id, source, reason, event_id, event_type, headers,"
        f" body) VALUES (1, 'approval', {N}, {N}, {N},"
        f" jsonb_build_object({N}, {N}), convert_to({N}, 'UTF8'))"
        " ON CONFLICT (id) DO UPDATE SET reason = excluded.reason, source = 'approval',"
        " headers = excluded.headers, body = excluded.body, settled_as = NULL,"
        " settled_at = NULL"
    ),
    (
        "INSERT INTO order_history (order_id, kind, request_id, event_id, destinations)"
        f" VALUES ({{owed}}, 'order.deleted', {N}, gen_random_uuid(), ARRAY[{N}])"
    ),
    (
        "INSERT INTO operator_actions (form_id, operator, action, given, reason,"
        f" request_id, outcome) VALUES (gen_random_uuid(), {N}, 'after-restore',"
        f" jsonb_build_object({N}, '5-6'), {N}, {N}, {N})"
    ),
)
MORE = [
    ["events", "list", "--sent"],
    ["events", "list", "--held"],
    ["dead-letters", "list", "--all"],
    ["doctor", "--fix"],
    ["dead-letters", "replay", "--all"],
]


def test_a_terminal_gets_nothing_but_print_from_any_command(world: Tampering) -> None:
    world.spoil(*PLANTED)
    shown = set()
    for command in [*MORE, *COMMANDS]:
        for arguments in ([*command, "--json"], command):
            said = orderctl(world.url, *arguments)
            assert raw(said.out + said.err) == set(), arguments
            assert "\nforged" not in said.out + said.err, arguments
            is_json = arguments != command and said.out and "export" not in command
            if is_json and NASTY in strings(said.json):
                shown.add(" ".join(command[:2]))
    assert shown >= {
        *("doctor", "doctor --fix", "audit"),
        *("events list", "events show", "events resend"),
        *("dead-letters list", "dead-letters show"),
    }


def strings(value: object) -> set[str]:
    """Return every string in a JSON document, names too."""
    if isinstance(value, dict):
        return set().union(value, *map(strings, value.values()))
    if isinstance(value, list):
        return set().union(*map(strings, value))
    return {value} if isinstance(value, str) else set()
