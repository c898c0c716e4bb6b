"""What a store holds, where its form is relied on."""

from hypothesis import given
from hypothesis import strategies as st

from busway.bus import records
from busway.bus.records import FIRST_INDEX, ChannelRecord, LaneRecord


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


@given(id_=st.integers(0, 2**63 - 1), waiting=st.integers(0, 1 << 33))
def test_a_lane_nobody_stood_behind_is_told_from_others(id_: int, waiting: int) -> None:
    assert records.decode_lane(records.new_lane(id_)) == LaneRecord(id_)
    lane = LaneRecord(id_, FIRST_INDEX + waiting, FIRST_INDEX + waiting)
    assert records.decode_lane(records.encode(lane)) == lane
