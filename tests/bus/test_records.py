"""What a store holds, where its form is relied on."""

from hypothesis import given
from hypothesis import strategies as st

from busway.bus import records
from busway.bus.records import FIRST_INDEX, ChannelRecord


@given(
    returned=st.integers(0, 1 << 20),
    taken=st.integers(0, 1 << 33),
    pending=st.integers(0, 1 << 20),
    owner=st.text("ab", max_size=12),
)
def test_an_empty_queue_is_told_from_others_without_decoding(
    returned: int, taken: int, pending: int, owner: str
) -> None:
    head = FIRST_INDEX - returned + taken
    raw = records.encode(ChannelRecord(head, head + pending, owner=owner))
    assert records.is_empty_channel(raw) == (pending == 0)
