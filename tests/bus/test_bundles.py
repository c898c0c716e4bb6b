"""Bundles: what one record of a queue holds."""

from hypothesis import given
from hypothesis import strategies as st

from busway.bus.bundles import (
    MAX_COUNT,
    MAX_SIZE,
    count_of,
    decode_bundle,
    expires_of,
    is_normal,
    is_notice,
    is_plain,
    tie,
    tie_all,
    tie_run,
    untie,
)
from busway.bus.codec import Envelope, Kind, encode
from busway.bus.parcels import Parcel, Row, Run
from busway.bus.plans import Plans
from busway.bus.policy import Policies

SECONDS = st.floats(0, 2**40, allow_nan=False)
ENVELOPES = st.builds(
    Envelope,
    expires=SECONDS,
    kind=st.sampled_from(Kind),
    id=st.integers(0, 2**63 - 1),
    channel=st.sampled_from(["normal", "single?reader", "process!one"]),
    sent=SECONDS,
    message=st.dictionaries(st.text(max_size=5), st.binary(max_size=100))
    | st.just({"x": b"x" * 9000}),
    lane=st.text(max_size=5),
    group=st.text(max_size=5),
    attempt=st.integers(1, 100),
)
PLAN = Plans(Policies()).find("a")


def parcel(envelope: Envelope) -> Parcel:
    return Parcel(PLAN, envelope)


def envelopes_of(bundle: bytes) -> list[Envelope]:
    fields = Envelope.__struct_fields__
    return [Envelope(*(getattr(each, name) for name in fields)) for each in decode_bundle(bundle)]


@given(st.lists(ENVELOPES, min_size=1, max_size=MAX_COUNT))
def test_what_was_tied_is_untied_and_decoded(envelopes: list[Envelope]) -> None:
    raw = [encode(envelope) for envelope in envelopes]
    bundle = tie(raw)
    assert untie(bundle) == raw
    assert envelopes_of(bundle) == envelopes
    assert count_of(bundle) == (0 if is_notice(bundle) else len(envelopes))


@given(ENVELOPES)
def test_what_is_read_without_decoding_is_the_same(envelope: Envelope) -> None:
    bundle = tie([encode(envelope)])
    assert expires_of(bundle) == envelope.expires
    assert is_plain(bundle) == (envelope.kind is Kind.MESSAGE)
    assert is_notice(bundle) == (envelope.kind in (Kind.JOINED, Kind.LEFT))
    assert is_normal(bundle) == (envelope.channel == "normal")


@given(st.lists(ENVELOPES, max_size=3 * MAX_COUNT))
def test_bundles_keep_order_and_what_they_promise(envelopes: list[Envelope]) -> None:
    bundles = list(tie_all([parcel(envelope) for envelope in envelopes]))
    found = [envelopes_of(bundle) for bundle in bundles]
    assert [envelope for bundle in found for envelope in bundle] == envelopes
    for bundle in found:
        expiries = [envelope.expires for envelope in bundle]
        assert expiries == sorted(expiries)
        assert 1 <= len(bundle) <= MAX_COUNT
        assert len(bundle) == 1 or all(each.kind is Kind.MESSAGE for each in bundle)
        assert sum(len(encode(each)) for each in bundle[:-1]) <= MAX_SIZE


ROWS = st.tuples(
    SECONDS,
    st.just(int(Kind.MESSAGE)),
    st.integers(0, 2**63 - 1),
    st.sampled_from(["normal", "single?reader", "process!one"]),
    SECONDS,
    st.dictionaries(st.text(max_size=5), st.binary(max_size=100)) | st.just({"x": b"x" * 9000}),
    st.text(max_size=5),
)


@given(st.lists(ROWS, min_size=1, max_size=MAX_COUNT))
def test_a_run_is_the_bundle_of_its_messages(rows: list[Row]) -> None:
    run = Run(PLAN, rows=rows)
    size = tie_run(run)
    assert bool(run.bundle) == (size <= MAX_SIZE)
    envelopes = [parcel.envelope for parcel in run.parcels()]
    assert envelopes_of(run.bundle or tie(list(map(encode, envelopes)))) == envelopes
    if run.bundle:
        assert count_of(run.bundle) == len(rows)
        assert expires_of(run.bundle) == rows[0][0]
        assert is_plain(run.bundle)


def test_messages_of_one_exchange_share_a_bundle() -> None:
    envelopes = [Envelope(1.0, Kind.MESSAGE, n, "a", 0.0, {}) for n in range(MAX_COUNT + 4)]
    bundles = list(tie_all([parcel(envelope) for envelope in envelopes]))
    assert [count_of(bundle) for bundle in bundles] == [MAX_COUNT, 4]
