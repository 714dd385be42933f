"""JSON that is nearly right, or nothing like it: strategies for generated tests."""

import base64
import copy
import json
import re
from typing import Any

from hypothesis import strategies as st

# What parsers, columns and other systems' ids trip over.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 4, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63) - 1),
    *(10**40, 10**400, 1.5, 4.0, 1e308, -0.0, float("nan"), float("inf")),
    *("", "0", "4", " 4", "4\n", "+4", "4.0", "0x4", "1_000", "\u0664", "1e999", "NaN"),
    *("true", "null", "\0", "a\0b", "\ud800", "\ufeff", "\u202e", "x" * 3000, "e30="),
    *("order.item.status.updated", "order.created", "00000000-0000-0000-0000-00000000"),
    *("a0a0a0a0-0000-4000-8000-000000000009", "A0A0A0A0000040008000000000000009"),
    *([], [[]], [None], ["4"], {}, {"": {}}, {"detail": "x"}, {"data": "e30="}),
)

scalars = st.one_of(
    st.sampled_from(ODD).map(copy.deepcopy),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner)
    ),
    max_leaves=6,
)
_BASE64 = re.compile(r"([A-Za-z0-9+/]{4}){10,}[A-Za-z0-9+/]{0,3}={0,2}")


def _holders(value: object) -> list[Any]:
    """Return every object and array with members, the outermost first."""
    members: list[object] = []
    if isinstance(value, dict):
        members = list(value.values())
    elif isinstance(value, list):
        members = value
    found: list[Any] = [value] if members else []
    return found + [holder for member in members for holder in _holders(member)]


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """Return a copy of JSON with one to three members changed, added or gone."""
    content = copy.deepcopy(value)
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        holders = _holders(content)
        if not holders:
            return content
        holder = draw(st.sampled_from(range(len(holders))))
        _mutate(draw, holders[holder])
    return content


def _mutate(draw: st.DrawFn, holder: Any) -> None:
    is_object = isinstance(holder, dict)
    place = draw(st.sampled_from(list(holder) if is_object else range(len(holder))))
    member = holder[place]
    what = draw(st.sampled_from(("odd", "odd", "odd", "gone", "inside", "more")))
    if what == "odd" and (content := _content(member)) is not None:
        holder[place] = base64.b64encode(draw(written(content))).decode()
    elif what == "odd":
        holder[place] = draw(values)
    elif what == "gone":
        del holder[place]
    elif what == "inside":
        holder[place] = draw(st.sampled_from(([member], {"data": member})))
    elif is_object:
        holder[draw(st.text(max_size=8))] = draw(values)
    else:
        holder.append(copy.deepcopy(member))


def _content(member: object) -> Any:
    """Return the JSON that a member contains in base64, None if it has none."""
    if not isinstance(member, str) or not _BASE64.fullmatch(member):
        return None
    try:
        return json.loads(base64.b64decode(member))
    except ValueError:
        return None


@st.composite
def written(draw: st.DrawFn, value: Any) -> bytes:
    """Return JSON, mutated as a value or as text, or both."""
    is_as_it_was = draw(st.sampled_from((False, False, False, True)))
    content = value if is_as_it_was else draw(mutated(value))
    is_ascii = draw(st.booleans())
    text = json.dumps(content, ensure_ascii=is_ascii).encode(errors="surrogatepass")
    if is_as_it_was or draw(st.sampled_from((False, False, False, True))):
        return draw(garbled(text))
    return text


@st.composite
def garbled(draw: st.DrawFn, text: bytes) -> bytes:
    """Return a text with something done to its bytes."""
    place = draw(st.integers(0, len(text)))
    noise = draw(st.binary(min_size=1, max_size=4))
    depth = draw(st.sampled_from((1, 2, 500, 20_000)))
    member = json.dumps({draw(st.text(max_size=9)): draw(scalars)}).encode()
    return draw(
        st.sampled_from(
            (
                text[:place],
                text[place:],
                text[:place] + noise + text[place:],
                text[:place] + noise + text[place + len(noise) :],
                text + text,
                b" \n" * depth + text,
                b"[" * depth + text + b"]" * depth,
                b'{"a":' * depth + text + b"}" * depth,
                text.replace(b"{", member[:-1] + b",", 1),
                text.replace(b":", b":\t", 1) + b"\n",
                b"\xef\xbb\xbf" + text,
                text.decode("latin-1").encode("utf-16"),
                text.replace(b'"', b"'"),
                re.sub(rb"[0-9]+", b"9" * min(depth, 5000), text, count=1),
            )
        )
    )


anything = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(str.encode),
    values.map(lambda value: json.dumps(value).encode()),
    values.flatmap(written),
)
