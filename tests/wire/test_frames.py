from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetflow.wire.errors import TooLarge
from packetflow.wire.frames import FrameCutter, framed


@given(st.lists(st.binary(max_size=40), max_size=12), st.lists(st.integers(1, 17), min_size=1, max_size=20))
def test_frames_come_out_as_they_went_in_whatever_the_pieces(bodies: list[bytes], pieces: list[int]) -> None:
    stream = b"".join(framed(body) for body in bodies)
    cutter, out, at, turn = FrameCutter(40), deque[bytes](), 0, 0
    while at < len(stream):
        size = pieces[turn % len(pieces)]
        cutter.feed(stream[at : at + size], out)
        at, turn = at + size, turn + 1
    assert list(out) == bodies
    assert not cutter.partial


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_any_bytes_are_cut_or_refused_and_never_more_kept_than_the_limit(pieces: list[bytes]) -> None:
    cutter, out = FrameCutter(64), deque[bytes]()
    for piece in pieces:
        try:
            cutter.feed(piece, out)
        except TooLarge:
            break
        assert len(cutter._kept) <= 64
    assert all(len(frame) <= 64 for frame in out)


def test_a_frame_above_the_limit_is_refused_at_its_head_after_those_before_it() -> None:
    cutter, out = FrameCutter(10), deque[bytes]()
    with pytest.raises(TooLarge, match="a frame of 11 bytes was announced: the limit is 10"):
        cutter.feed(framed(b"first") + b"\x00\x00\x00\x0b", out)
    assert list(out) == [b"first"]


def test_half_a_head_and_half_a_body_are_partial() -> None:
    cutter, out = FrameCutter(10), deque[bytes]()
    cutter.feed(b"\x00\x00", out)
    assert cutter.partial
    cutter.feed(b"\x00\x02a", out)
    assert cutter.partial
    cutter.feed(b"b", out)
    assert not cutter.partial
    assert list(out) == [b"ab"]


def test_an_empty_frame_is_a_frame() -> None:
    cutter, out = FrameCutter(10), deque[bytes]()
    cutter.feed(framed(b"") * 2, out)
    assert list(out) == [b"", b""]
