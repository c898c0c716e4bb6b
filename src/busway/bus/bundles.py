"""What one record of a queue holds: messages that one exchange put there, in a row.

A bundle is a msgpack array of envelopes behind a header of fixed size, so that what is to be known
to take it can be read without decoding it. Its messages expire in their order; an envelope that is
not a plain message stands alone.
"""

from collections.abc import Iterator, Sequence
from struct import Struct

import msgspec

from busway.bus.codec import Kind, decode_envelope, encode
from busway.bus.operations import Delivery
from busway.bus.parcels import Parcel, Run

MAX_COUNT = 32
"""Messages in one bundle: as many as a worker takes at once. A reader that takes fewer has to
write the others back."""

MAX_SIZE = 32 * 1024
"""Bytes after which a bundle takes no further message."""

_ARRAY_16 = 0xDC
_header = Struct(">BH").pack

_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_float_at = Struct(">d").unpack_from
_COUNT_AT = 2
_EXPIRES_AT = 5
_KIND_AT = 13
_MESSAGE, _GROUP_MESSAGE = int(Kind.MESSAGE), int(Kind.GROUP_MESSAGE)

decode_bundle = msgspec.msgpack.Decoder(list[Delivery]).decode


def tie(envelopes: Sequence[bytes]) -> bytes:
    """Return encoded envelopes, up to `MAX_COUNT`, as one bundle."""
    return _header(_ARRAY_16, len(envelopes)) + b"".join(envelopes)


def untie(bundle: bytes) -> list[bytes]:
    """Return the encoded envelopes of a bundle."""
    return [bytes(raw) for raw in _split(bundle)]


def tie_run(run: Run) -> int:
    """Encode the messages of a run, up to `MAX_COUNT`, all at once; returns how many bytes.

    They become its bundle if that is not too large.
    """
    data = encode(run.rows)
    if len(data) <= MAX_SIZE:
        # The encoder's own header is shorter when the array is.
        own = 1 if data[0] != _ARRAY_16 else _COUNT_AT + 1
        run.bundle = _header(_ARRAY_16, len(run.rows)) + data[own:]
    return len(data)


def tie_all(parcels: Sequence[Parcel]) -> Iterator[bytes]:
    """Yield bundles of parcels for one queue, in their order."""
    run: list[bytes] = []
    size = 0
    expires = 0.0
    for parcel in parcels:
        envelope, data = parcel.envelope, parcel.data
        plain = envelope.kind is Kind.MESSAGE
        if run and (
            not plain or envelope.expires < expires or len(run) == MAX_COUNT or size > MAX_SIZE
        ):
            yield tie(run)
            run, size = [], 0
        run.append(data)
        size += len(data)
        expires = envelope.expires
        if not plain:
            yield tie(run)
            run, size = [], 0
    if run:
        yield tie(run)


def count_of(bundle: bytes) -> int:
    """Return how many messages a bundle has; a notice is none."""
    return bundle[_COUNT_AT] if bundle[_KIND_AT] <= _GROUP_MESSAGE else 0


def expires_of(bundle: bytes) -> float:
    """Return when the first message of a bundle expires: seconds since the epoch."""
    found: float = _float_at(bundle, _EXPIRES_AT)[0]
    return found


def is_plain(bundle: bytes) -> bool:
    """Say whether a bundle has plain messages: neither a group's message nor a notice."""
    return bundle[_KIND_AT] == _MESSAGE


def is_notice(bundle: bytes) -> bool:
    """Say whether a bundle is a notice about a group's members, and no message."""
    return bundle[_KIND_AT] > _GROUP_MESSAGE


def is_normal(bundle: bytes) -> bool:
    """Say whether a bundle is from a normal channel, that several may read."""
    channel = decode_envelope(untie(bundle)[0]).channel
    return "!" not in channel and "?" not in channel
