"""Stop sequences in text that comes in pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.serve.model.stops import Stops


@given(st.lists(st.text("abc", max_size=4), max_size=12), st.lists(st.text("abc", min_size=1, max_size=3), max_size=3))
def test_text_in_pieces_is_cut_where_the_whole_would_be(pieces: list[str], sequences: list[str]) -> None:
    stops, shown, stopped = Stops(sequences), "", False
    for piece in pieces:
        text, stopped = stops.add(piece)
        shown += text
        if stopped:
            break
    else:
        shown += stops.rest()
    whole = "".join(pieces)
    places = [whole.find(one) for one in sequences if one in whole]
    assert stopped == bool(places)
    if not places:
        assert shown == whole
    else:  # a longer sequence that begins earlier may be whole only after a shorter one was found
        assert whole.startswith(shown) and not any(one in shown for one in sequences)
