"""JSON in and out; every error of an invalid body, by its path, in plain words.

msgspec stops at the first error and names Python's types. So an invalid body is walked
beside its declared type, each part is decoded by itself, and the rule that it breaks is
put into words from the type.
"""

import functools
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Raw, UnsetType, inspect, json, structs

from common.errors import InvalidRequestError

# What columns, events and their consumers can hold.
BigInt = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
NO_NUL = r"^[^\x00]*$"  # PostgreSQL stores no text with NUL characters
Text = Annotated[str, Meta(max_length=2000, pattern=NO_NUL)]

# How many errors of a body are listed.
MAX_ERRORS = 100

T = TypeVar("T")


def encode(value: object) -> str:
    """Return `value` as JSON text."""
    return json.encode(value).decode()


# Decoding a mebibyte holds the interpreter lock for up to 50 ms. Large bodies are
# decoded one at a time, so that other threads wait for one of them at most.
LARGE_BODY_BYTES = 32 * 1024
_large_body_lock = threading.Lock()


def decode(body: bytes, shape: type[T]) -> T:
    """Return `body` as `shape`; raise InvalidRequestError with up to MAX_ERRORS."""
    if len(body) <= LARGE_BODY_BYTES:
        return _decode(body, shape)
    with _large_body_lock:
        return _decode(body, shape)


def _decode(body: bytes, shape: type[T]) -> T:
    try:
        # As text, because msgspec does not check the bytes of fields that it ignores.
        text = body.decode()
        try:
            return json.decode(text, type=shape)
        except msgspec.ValidationError as error:
            errors: dict[str, list[str]] = {}
            found = _violations(json.decode(text, type=Raw), shape, "")
            for path, rule in islice(found, MAX_ERRORS):
                errors.setdefault(path or "body", []).append(rule)
            raise InvalidRequestError.of_all(errors) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError("The body is not valid JSON.") from error


Shape = Any  # a type as it is declared, with its limits
Violation = tuple[str, str]  # the path, and the rule that is broken there


def _violations(value: Raw, shape: Shape, path: str) -> Iterator[Violation]:
    """Yield each error of a value; its parts are decoded once for each level.

    A value is validated as a whole only where no part of it explains why it is invalid.
    Of an object that is too large, the first MAX_ERRORS keys are looked at.
    """
    bounded = _without_null(shape)
    plain = get_args(bounded)[0] if _origin(bounded) is Annotated else bounded
    kind = _origin(plain) or plain
    parts = _parts(value, kind)
    if parts is None:
        if not _is_valid(value, shape):
            yield path, _must_be(shape)
        return

    limit: int | None = getattr(_info(bounded), "max_length", None)
    is_explained = limit is not None and len(parts) > limit
    if is_explained:
        yield path, _must_be(shape)
    if kind is dict:
        found = _in_dict(dict(islice(parts.items(), MAX_ERRORS)), plain, path)
    elif kind is list:
        found = _in_list(parts[:limit], plain, path)
    else:
        found = _in_struct(parts, kind, path)
    for violation in found:
        is_explained = True
        yield violation
    if not is_explained and not _is_valid(value, shape):
        # Of two values for one field, only the last one is in `parts`.
        yield path, "must not have the same field twice"


def _parts(value: Raw, kind: Shape) -> Any:  # noqa: ANN401 a list or a dict
    """Return the parts of a list or an object, None if it is not of that kind.

    Of a struct only those that it has, because a body may have many others.
    """
    try:
        if inspect.is_struct_type(kind):
            fields = _decoder(_raw_fields(kind)).decode(value)
            return {name: part for name, part in structs.asdict(fields).items() if part}
        if kind in (list, dict):
            return _decoder(list[Raw] if kind is list else dict[str, Raw]).decode(value)
    except msgspec.ValidationError:
        pass
    return None


@functools.cache
def _raw_fields(shape: Shape) -> type[msgspec.Struct]:
    names = [field.encode_name for field in structs.fields(shape)]
    return msgspec.defstruct("_RawFields", [(name, Raw, Raw()) for name in names])


def _in_struct(
    parts: Mapping[str, Raw], shape: Shape, path: str
) -> Iterator[Violation]:
    for field in structs.fields(shape):
        field_path = f"{path}.{field.encode_name}".removeprefix(".")
        if field.encode_name in parts:
            yield from _violations(parts[field.encode_name], field.type, field_path)
        elif field.required:
            yield field_path, "is required"


_SIMPLE_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def _in_dict(parts: Mapping[str, Raw], shape: Shape, path: str) -> Iterator[Violation]:
    key_shape, value_shape = get_args(shape)
    valid = [key for key in parts if _is_valid(json.encode(key), key_shape)]
    if len(valid) < len(parts):  # their path is the object's: they may be long
        yield path, f"must have keys that are {_words(_info(key_shape))}"
    for key in valid:
        is_simple = _SIMPLE_KEY.fullmatch(key)
        key_path = f"{path}.{key}" if is_simple else f"{path}[{encode(key)}]"
        yield from _violations(parts[key], value_shape, key_path)


def _in_list(parts: Sequence[Raw], shape: Shape, path: str) -> Iterator[Violation]:
    [item_shape] = get_args(shape)
    for index, part in enumerate(parts):
        yield from _violations(part, item_shape, f"{path}[{index}]")


def _is_valid(value: Raw | bytes, shape: Shape) -> bool:
    try:
        _decoder(shape).decode(value)
    except msgspec.ValidationError:
        return False
    return True


# The types are those of the code, so there are few of them.
_decoder = functools.cache(json.Decoder)
_info = functools.cache(inspect.type_info)


def _origin(shape: Shape) -> Any:  # noqa: ANN401 as typing's
    return get_origin(shape)


def _without_null(shape: Shape) -> Shape:
    """Return the type of a value that is there; no type has more than one."""
    if _origin(shape) in (Union, UnionType):
        [shape] = set(get_args(shape)) - {NoneType, UnsetType}
    return shape


def _must_be(shape: Shape) -> str:
    return f"must be {_words(_info(shape))}"


def _words(info: inspect.Type) -> str:  # noqa: PLR0911 a return for each type
    """Return what a value of this type is, for people."""
    match info:
        case inspect.Metadata(type=described):
            return _words(described)
        case inspect.UnionType(types=types):
            return " or ".join(_words(each) for each in types)
        case inspect.NoneType():
            return "null"
        case inspect.BoolType():
            return "true or false"
        case inspect.UUIDType():
            return "a UUID"
        case inspect.IntType(ge=least, le=most):
            return f"a whole number from {least} to {most}"
        case inspect.StrType(min_length=least, max_length=most, pattern=pattern):
            size = f"{least} to {most}" if least else f"at most {most}"
            condition = ", without NUL characters" if pattern == NO_NUL else ""
            return f"text of {size} characters{condition}"
        case inspect.ListType(max_length=most):
            return f"a list of at most {most} items"
        case inspect.DictType(max_length=most):
            return f"an object with at most {most} keys"
        case _:
            return "an object"
