"""JSON as Django writes it: with dates, times, decimals, UUIDs and lazy texts."""

from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

# No browser reads NaN, so it is refused here, where there is somebody to see it.
_encode = DjangoJSONEncoder(allow_nan=False, separators=(",", ":")).encode


def encode_json(content: Any) -> str:
    """Return `content` as JSON.

    Raises TypeError for what JSON cannot hold, ValueError for NaN and infinity.
    """
    return _encode(content)
