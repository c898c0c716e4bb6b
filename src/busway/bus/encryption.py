"""Message bodies that nobody without a key can read, change, or pass off as another channel's.

AES-256-GCM. A sealed body is

    key id     4 bytes    which of the keys: derived from it
    salt      16 bytes    random, of the process that sealed it, renewed every 2**32 messages
    number     4 bytes    counts the messages of one salt
    ciphertext            as long as the body
    tag       16 bytes

From a key, HKDF-SHA256 (RFC 5869, no salt) derives its id (info `busway key id`) and, for each
salt, the key of the cipher (info `busway body ` and the salt). The nonce is eight zero bytes and
the number: it is unique for a salt by counting, where random ones would meet by chance.

What is authenticated besides is the *context* that the caller gives: the channel or group that the
message is for. Whoever can write to the bus but has no key can drop, repeat and reorder messages.
"""

import os
import weakref
from collections.abc import Callable, Sequence
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from busway.bus.errors import ConfigurationError, Tampered

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SHORTEST_KEY = 16
"""Bytes that a key has to have at least."""

OVERHEAD = 4 + 16 + 4 + 16
"""Bytes by which a sealed body is longer than the body."""

_ID, _SALT, _NUMBER, _TAG = 4, 16, 4, 16
_HEAD = _ID + _SALT + _NUMBER
_LAST_NUMBER = 2**32 - 1
_ZEROS = bytes(12 - _NUMBER)
_MOST_OPENERS = 4096
"""Salts, so about processes, whose derived keys are kept."""

_HOW = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def parse_keys(text: str) -> list[str]:
    """Return the keys in a URL's option: separated by commas, the one that encrypts first."""
    return text.split(",")


def channel_context(channel: str) -> bytes:
    """Return the context of a message for `channel`."""
    return b"c" + channel.encode()


def group_context(group: str) -> bytes:
    """Return the context of a message for the members of `group`, wherever they are."""
    return b"g" + group.encode()


class _Sealer(NamedTuple):
    """What encrypts until its numbers are used up."""

    head: bytes
    cipher: "AESGCM"
    number: Callable[[], int]


class Cipher:
    """Encrypts with the first of its keys and decrypts with all of them.

    To change keys without losing a message: put the new one last everywhere, then first
    everywhere, then remove the old one. Thread-safe, and safe to use after a fork.
    """

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        """Take keys of 16 bytes or more that nobody can guess; text counts as UTF-8.

        Raises `ConfigurationError` for keys that are short, given twice or none, and when the
        package `cryptography` is missing.
        """
        derivations = [_derivation(key) for key in _checked(keys)]
        self._derive = {derive(b"busway key id", _ID): derive for derive in derivations}
        if len(self._derive) < len(derivations):
            raise ConfigurationError("encryption_keys has the same key twice; remove one")
        self._first = next(iter(self._derive))
        self._renewing = Lock()
        # By key id and salt; only of bodies that were in order, so that no flood displaces them.
        self._openers: dict[bytes, AESGCM] = {}
        self._sealer = self._new_sealer()
        _ciphers.add(self)

    def encrypt(self, body: bytes, context: bytes) -> bytes:
        """Return `body` sealed for `context`: see `channel_context` and `group_context`."""
        sealer = self._sealer
        number = sealer.number()
        while number > _LAST_NUMBER:
            sealer = self._renew(sealer)
            number = sealer.number()
        tail = number.to_bytes(_NUMBER)
        return sealer.head + tail + sealer.cipher.encrypt(_ZEROS + tail, body, context)

    def decrypt(self, sealed: bytes, context: bytes) -> bytes:
        """Return the body in `sealed`; raises `Tampered` when it is not what was sealed."""
        if len(sealed) < OVERHEAD:
            raise Tampered("it is too short to be an encrypted one")
        head = sealed[: _ID + _SALT]
        cipher = self._openers.get(head) or self._opener(head)
        try:
            body = cipher.decrypt(_ZEROS + sealed[_ID + _SALT : _HEAD], sealed[_HEAD:], context)
        except _invalid_tag():
            raise Tampered("it was changed, or is another channel's") from None
        if head not in self._openers:
            if len(self._openers) >= _MOST_OPENERS:
                self._openers.clear()
            self._openers[head] = cipher
        return body

    def _opener(self, head: bytes) -> "AESGCM":
        derive = self._derive.get(head[:_ID])
        if derive is None:
            raise Tampered(
                f"none of the {len(self._derive)} encryption_keys has its key id {head[:_ID].hex()}"
            )
        return _cipher(derive(b"busway body " + head[_ID:], 32))

    def _new_sealer(self) -> _Sealer:
        head = self._first + os.urandom(_SALT)
        return _Sealer(head, self._opener(head), count().__next__)

    def _renew(self, used_up: _Sealer) -> _Sealer:
        with self._renewing:
            if self._sealer is used_up:
                self._sealer = self._new_sealer()
            return self._sealer

    def _after_fork(self) -> None:
        # Parent and child would go on with the same numbers, and so with the same nonces.
        self._renewing = Lock()
        self._sealer = self._new_sealer()


def _checked(keys: Sequence[str | bytes]) -> list[bytes]:
    given: object = keys
    if isinstance(given, str | bytes) or not isinstance(given, Sequence) or not given:
        raise ConfigurationError(
            "encryption_keys is not a list of one key or more; the first encrypts, all decrypt"
        )
    found = []
    for place, key in enumerate(keys, 1):
        if not isinstance(key, str | bytes):
            raise ConfigurationError(
                f"key {place} of encryption_keys is of {type(key).__name__}, expected text or bytes"
            )
        data = key.encode() if isinstance(key, str) else key
        if len(data) < SHORTEST_KEY:
            # A key must not be in an error's text, which is logged.
            raise ConfigurationError(
                f"key {place} of encryption_keys has {len(data)} bytes, expected at least "
                f"{SHORTEST_KEY} that nobody can guess; {_HOW}"
            )
        found.append(data)
    return found


def _derivation(key: bytes) -> Callable[[bytes, int], bytes]:
    """Return what derives, from `key`, so many bytes for a purpose."""
    try:
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415  (optional)
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            'encryption_keys needs the package cryptography; run: pip install "busway[encryption]"'
        ) from None

    def derive(purpose: bytes, length: int) -> bytes:
        return HKDF(SHA256(), length, salt=None, info=purpose).derive(key)

    return derive


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  (optional)

    return AESGCM(key)


def _invalid_tag() -> type[Exception]:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415  (optional)

    return InvalidTag


_ciphers: "weakref.WeakSet[Cipher]" = weakref.WeakSet()


def _after_fork() -> None:
    for cipher in list(_ciphers):
        cipher._after_fork()  # noqa: SLF001  (the same module)


os.register_at_fork(after_in_child=_after_fork)
