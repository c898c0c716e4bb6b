"""Messages encrypted on their way: closed before they are stored, opened when they are received.

A closed message is a map whose only key is the empty text, and whose value is the encoded message
as `busway.bus.encryption` encrypts it. What it stands beside (channel, lane, times) is not secret.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from busway.bus.codec import Envelope, encode_message
from busway.bus.encryption import Cipher, channel_context, group_context
from busway.bus.errors import Tampered
from busway.bus.messages import Message

logger = logging.getLogger("busway.bus")

_KEY = ""
_LOG_INTERVAL = 10.0
"""Seconds between two warnings: what comes from an enemy is not to fill the log."""

_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Seal:
    """Closes and opens the messages of one layer. Thread-safe."""

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        """Take the keys of `Cipher`. Raises `ConfigurationError` as that does."""
        self._cipher = Cipher(keys)
        self._warn_at = 0.0

    def close(self, message: Message, channel: str, limit: int) -> dict[str, Any]:
        """Return a checked message for `channel`, closed; raises what `encode_message` does."""
        body = encode_message(message, channel, limit, checked=True)
        return {_KEY: self._cipher.encrypt(body, channel_context(channel))}

    def close_for_group(self, message: Message, group: str, limit: int) -> dict[str, Any]:
        """Return a checked message for the members of `group`, closed."""
        body = encode_message(message, group, limit, checked=True)
        return {_KEY: self._cipher.encrypt(body, group_context(group))}

    def open(self, envelope: Envelope) -> bool:
        """Open the message of an envelope; False, and a warning, when it is not genuine."""
        group = envelope.group
        context = group_context(group) if group else channel_context(envelope.channel)
        try:
            sealed = envelope.message.get(_KEY)
            if not isinstance(sealed, bytes) or len(envelope.message) != 1:
                raise Tampered("it is not encrypted at all")  # noqa: TRY301
            envelope.message = _decode(self._cipher.decrypt(sealed, context))
        except Tampered as error:
            self._warn(envelope.channel, error)
            return False
        return True

    def _warn(self, channel: str, error: Tampered) -> None:
        now = time.monotonic()
        if now >= self._warn_at:
            self._warn_at = now + _LOG_INTERVAL
            logger.warning("a message for %s is dropped, and counted: %s", channel, error)
