"""Whatever is compressed comes back as it was, and no other bytes are taken for a longer body than is allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catga_sync.wire.compression import CompressionError, accepted, codings, compress, decompress, longest
from tests.thorough import thorough

#: Pieces that repeat, and pieces that do not.
BODIES = st.lists(st.tuples(st.binary(max_size=40), st.integers(1, 3000)), max_size=5).map(
    lambda pieces: b"".join(piece * times for piece, times in pieces)
)


@pytest.mark.parametrize("coding", codings())
@thorough(800)
@given(body=BODIES, more=st.integers(0, 100))
def test_a_body_comes_back_as_it_was(coding: str, body: bytes, more: int) -> None:
    made = compress(coding, body)
    assert decompress(coding, made, len(body) + more) == body
    assert len(body) <= longest(coding, made, len(body) + more)


@pytest.mark.parametrize("coding", codings())
@thorough(800)
@given(body=BODIES, limit=st.integers(0, 200_000), cut=st.integers(0, 50), tail=st.binary(max_size=20))
def test_no_body_is_longer_than_allowed_or_made_of_a_part(
    coding: str, body: bytes, limit: int, cut: int, tail: bytes
) -> None:
    made = compress(coding, body)
    changed = made[: len(made) - cut] + tail
    try:
        found = decompress(coding, changed, limit)
    except CompressionError:
        assert changed != made or len(body) > limit
    else:
        assert len(found) <= limit
        # A stream that ends early is no body.
        assert changed == made or tail


@thorough(800)
@given(st.text(max_size=60))
def test_no_coding_is_taken_that_was_not_asked_for(value: str) -> None:
    coding = accepted(value)
    assert coding is None or coding in value.lower()
