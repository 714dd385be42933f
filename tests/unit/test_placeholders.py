"""Numbers in place of ids: what is made with them is the same as with the ids."""

import re

from common import events, orders
from common.placeholders import Ids, fill, place, placeholders, template
from common.schemas import MAX_ID, encode
from tests.support.factories import OWNER, line

IDS = Ids(7, [21, 22, 23], "2025-12-01T10:00:00.058493Z")


def texts(ids: Ids) -> list[str]:
    """Answer every kind of text that a new order is told in."""
    metadata = {"100%": "1$s %1$s %% 7 21"}
    change = orders.new_order(OWNER, [line()] * 3, ids, metadata=metadata, cart_id=42)
    told = [event.body for event in change.events]
    return [*told, encode(change.order), f"/api/orders/{change.order.id}/"]


def test_what_is_filled_is_what_the_ids_would_have_given() -> None:
    stand_ins = placeholders(3)
    filled = [fill(text, IDS) for text in texts(stand_ins)]
    assert filled == texts(IDS)
    assert texts(stand_ins) != texts(IDS)


def test_a_template_keeps_every_per_cent_sign_and_names_each_place() -> None:
    stand_ins = placeholders(2)
    text = f'{{"id":{stand_ins.order_id},"at":"{stand_ins.at}","of":"100%"}}'
    assert template(text) == '{"id":%2$s,"at":"%1$s","of":"100%%"}'
    item = f'"{stand_ins.item_ids[1]}"'
    assert template(item) == '"%4$s"'


def test_a_text_without_placeholders_stays_as_it_is() -> None:
    for text in texts(IDS):
        assert fill(text, IDS) == text
        assert template(text).replace("%%", "%") == text


def test_items_of_an_existing_order_name_the_order_itself() -> None:
    stand_ins = placeholders(1, 4)
    assert stand_ins.order_id == 4
    assert fill(f"{stand_ins.order_id} {stand_ins.item_ids[0]}", IDS) == "4 21"


def test_new_items_have_their_places_and_real_ids_none() -> None:
    assert [place(id_) for id_ in placeholders(3).item_ids] == [1, 2, 3]
    assert place(4) is None


def test_placeholders_are_ids_by_their_looks() -> None:
    stand_ins = placeholders(10_000)
    every = [stand_ins.order_id, *stand_ins.item_ids]
    assert len(set(every)) == len(every)
    assert all(0 < number <= MAX_ID for number in every)
    assert {len(str(number)) for number in every} == {19}


def test_an_event_is_told_with_ids_of_the_right_type() -> None:
    stand_ins = placeholders(1)
    change = orders.new_order(OWNER, [line()], stand_ins, cart_id=42)
    item, created = (fill(event.body, IDS) for event in change.events)
    assert '"order_item_id":"21","order_id":"7"' in item
    assert '"order_id":7,' in created
    assert change.events[0].type == events.ITEM_CREATED
    assert not re.search(r"\d{19}", item + created)
