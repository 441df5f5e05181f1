"""Both encodings keep one contract; what differs between them is named."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import threading
import uuid
from typing import Any

import msgpack
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packetflow.wire.codec import Codec, Json, Msgpack, Unencodable
from packetflow.wire.errors import ProtocolError, RequestError, TooLarge
from packetflow.wire.limits import Limits

LIMITS = Limits(depth=6, string=1000, collection=100)
CODECS: list[Codec] = [Msgpack(LIMITS), Json(LIMITS)]
both = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=50)
)
plain = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5), max_leaves=20
)  # fmt: skip


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@both
@given(value=plain)
def test_plain_data_comes_back_as_it_was_unless_it_is_too_deep(codec: Codec, value: Any) -> None:
    data = codec.encode(value)
    if depth_of(value) > LIMITS.depth:
        with pytest.raises(TooLarge):
            codec.decode(data)
    else:
        assert codec.decode(data) == value


@both
@settings(max_examples=300)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused_with_a_typed_error(codec: Codec, data: bytes) -> None:
    try:
        value = codec.decode(data)
    except (ProtocolError, TooLarge):
        pass  # the only two that it may be
    else:
        assert depth_of(value) <= LIMITS.depth
    assert codec.decode(codec.encode({"still": "sound"})) == {"still": "sound"}


@both
@given(value=plain, cut=st.integers(1, 5))
def test_a_truncated_message_is_refused(codec: Codec, value: Any, cut: int) -> None:
    data = codec.encode([value, "end"])[:-cut]
    with pytest.raises(RequestError):
        codec.decode(data)


@both
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused_in_both_directions(codec: Codec, number: float) -> None:
    with pytest.raises(Unencodable):
        codec.encode({"a": [1.5, number]})
    data = msgpack.packb({"a": number}) if codec.name == "msgpack" else json.dumps({"a": number}).encode()
    with pytest.raises(ProtocolError):
        codec.decode(data)


def test_a_single_precision_nan_is_refused_and_a_number_taken() -> None:
    codec = Msgpack(LIMITS)
    assert codec.decode(b"\xca\x3f\xc0\x00\x00") == 1.5
    for odd in (b"\xca\x7f\xc0\x00\x00", b"\xca\x7f\x80\x00\x00", b"\xca\xff\x80\x00\x00"):
        with pytest.raises(ProtocolError):
            codec.decode(odd)


def test_text_that_looks_like_a_nan_is_text() -> None:
    packed = Msgpack(LIMITS)
    for value in ({"a": b"\xcb\x7f\xf8\x00", "b": 1.5}, {"a": "\u02ff NaN"}):
        assert packed.decode(packed.encode(value)) == value
    text = Json(LIMITS)
    assert text.decode(text.encode({"a": "NaN Infinity"})) == {"a": "NaN Infinity"}


@both
@pytest.mark.parametrize(
    ("value", "limit"),
    [("x" * 1001, "string"), ([0] * 101, "collection"), ({str(n): n for n in range(101)}, "collection"),
     ([[[[[[[1]]]]]]], "depth"), ({"a": [{"b": [{"c": [{}]}]}]}, "depth")],
)  # fmt: skip
def test_each_limit_is_named(codec: Codec, value: Any, limit: str) -> None:
    with pytest.raises(TooLarge) as caught:
        codec.decode(codec.encode(value))
    assert caught.value.details["limit"] == limit


@both
def test_nesting_far_beyond_the_parser_is_too_large_and_not_a_crash(codec: Codec) -> None:
    data = b"\x91" * 100_000 + b"\xc0" if codec.name == "msgpack" else b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(TooLarge):
        codec.decode(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x93\x01", b"\x01\x02", b"\xa2\xff\xfe", b"\xdb\xff\xff\xff\xff", b"\x81\x01\x02", b"\xc7\x01\x05x"],
)  # fmt: skip
def test_what_is_not_msgpack_is_a_protocol_error(data: bytes) -> None:
    codec = Msgpack(LIMITS)
    with pytest.raises(ProtocolError if data[:1] != b"\xdb" else RequestError):
        codec.decode(data)
    assert codec.decode(b"\x01") == 1


@pytest.mark.parametrize(
    "data", [b"", b"{", b"{} {}", b"nul", b'"\xff"', b'"\\ud800"', b"\xef\xbb\xbf{}", b"{1: 2}", b"9" * 5000]
)
def test_what_is_not_json_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Json(LIMITS).decode(data)


class Colour(enum.Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    when: datetime.datetime
    price: decimal.Decimal
    nested: dict[str, uuid.UUID]


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


@both
@pytest.mark.parametrize(
    ("value", "plain_form"),
    [
        (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "2026-01-02T03:04:05Z"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.timedelta(seconds=90), "PT1M30S"),
        (decimal.Decimal("1.20"), "1.20"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Colour.RED, "red"),
        ((1, "a"), [1, "a"]),
        (frozenset({"a"}), ["a"]),
        (Point(1, {"b"}), {"x": 1, "tags": ["b"]}),
        (
            Model(
                when=datetime.datetime(2026, 1, 2), price=decimal.Decimal(3), nested={"a": uuid.UUID(int=1)}
            ),
            {
                "when": "2026-01-02T00:00:00",
                "price": "3",
                "nested": {"a": "00000000-0000-0000-0000-000000000001"},
            },
        ),
        ({"list": [datetime.date(2026, 1, 2)]}, {"list": ["2026-01-02"]}),
    ],
)
def test_what_pydantic_serialises_is_sent_in_its_json_form(codec: Codec, value: Any, plain_form: Any) -> None:
    assert codec.decode(codec.encode(value)) == plain_form


@both
@pytest.mark.parametrize("value", [object(), lambda: 1, "\ud800", {"a": object()}])
def test_what_no_message_can_hold_is_unencodable(codec: Codec, value: Any) -> None:
    with pytest.raises(Unencodable):
        codec.encode(value)
    assert codec.decode(codec.encode([1])) == [1]


@both
def test_a_value_that_contains_itself_is_unencodable(codec: Codec) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(Unencodable):
        codec.encode(endless)


def test_an_integer_of_more_than_64_bits_is_unencodable_in_msgpack() -> None:
    with pytest.raises(Unencodable, match="more than 64 bits"):
        Msgpack(LIMITS).encode({"n": 1 << 70})


def test_a_msgpack_timestamp_is_a_moment() -> None:
    assert Msgpack(LIMITS).decode(msgpack.packb(msgpack.Timestamp(0, 0))) == datetime.datetime(
        1970, 1, 1, tzinfo=datetime.UTC
    )


def test_values_encoded_in_the_midst_of_each_other_do_not_mix() -> None:
    codec = Msgpack(LIMITS)

    class Nosy(pydantic.BaseModel):
        x: int

        @pydantic.field_serializer("x")
        def nosy(self, value: int) -> str:
            return codec.encode({"inner": value}).hex()

    assert codec.decode(codec.encode({"a": Nosy(x=1), "b": 2}))["b"] == 2


def test_threads_may_encode_at_once() -> None:
    codec = Msgpack(LIMITS)
    wrong: list[Any] = []

    def encode(number: int) -> None:
        for _ in range(300):
            value = {"n": number, "when": datetime.date(2026, 1, number + 1)}
            if msgpack.unpackb(codec.encode(value)) != {"n": number, "when": f"2026-01-0{number + 1}"}:
                wrong.append(value)

    threads = [threading.Thread(target=encode, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
