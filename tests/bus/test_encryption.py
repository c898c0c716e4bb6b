"""Encrypted bodies: nobody else reads, changes or redirects them, and keys can be changed."""

import hashlib
import hmac
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from busway.bus import encryption
from busway.bus.encryption import (
    OVERHEAD,
    Cipher,
    channel_context,
    group_context,
    parse_keys,
)
from busway.bus.errors import ConfigurationError, Tampered

OLD, NEW, OTHER = "the old key of this test", "the new key of this test", "somebody else's key"
HEAD = slice(0, 24)
"""Key id, salt and number."""

BODIES = st.binary(max_size=300)
CONTEXTS = st.binary(max_size=100)


@given(BODIES, CONTEXTS)
def test_a_body_comes_back_as_it_was(body: bytes, context: bytes) -> None:
    sealed = Cipher([NEW]).encrypt(body, context)
    assert len(sealed) == len(body) + OVERHEAD
    assert Cipher([NEW]).decrypt(sealed, context) == body


@given(st.binary(min_size=8, max_size=300), CONTEXTS)
def test_nothing_of_a_body_can_be_seen(body: bytes, context: bytes) -> None:
    cipher = Cipher([NEW])
    sealed = cipher.encrypt(body, context)
    assert body not in sealed
    assert cipher.encrypt(body, context)[24:] != sealed[24:], "equal bodies look equal"


@given(st.binary(max_size=40), st.data())
def test_a_change_of_any_bit_is_noticed(body: bytes, data: st.DataObject) -> None:
    cipher = Cipher([NEW])
    sealed = bytearray(cipher.encrypt(body, b"context"))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Tampered):
        cipher.decrypt(bytes(sealed), b"context")


def test_a_change_of_every_byte_is_noticed() -> None:
    cipher = Cipher([NEW])
    sealed = cipher.encrypt(b"body", b"context")
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes([sealed[place] ^ 0xFF]) + sealed[place + 1 :]
        with pytest.raises(Tampered):
            cipher.decrypt(changed, b"context")


@given(BODIES)
def test_what_is_cut_or_longer_is_refused(body: bytes) -> None:
    cipher = Cipher([NEW])
    sealed = cipher.encrypt(body, b"context")
    for cut in range(len(sealed)):
        with pytest.raises(Tampered):
            cipher.decrypt(sealed[:cut], b"context")
    with pytest.raises(Tampered):
        cipher.decrypt(sealed + b"\0", b"context")


@given(st.binary(max_size=100))
def test_bytes_that_nobody_sealed_are_refused(data: bytes) -> None:
    with pytest.raises(Tampered):
        Cipher([NEW]).decrypt(data, b"context")


@given(CONTEXTS, CONTEXTS)
def test_a_body_is_good_for_its_context_alone(one: bytes, two: bytes) -> None:
    cipher = Cipher([NEW])
    sealed = cipher.encrypt(b"body", one)
    if one == two:
        assert cipher.decrypt(sealed, two) == b"body"
    else:
        with pytest.raises(Tampered, match="another channel's"):
            cipher.decrypt(sealed, two)


def test_a_group_and_a_channel_of_the_same_name_have_different_contexts() -> None:
    assert channel_context("chat") != group_context("chat")
    assert channel_context("chat") != channel_context("chat2")


def test_the_parts_of_two_messages_cannot_be_mixed() -> None:
    cipher = Cipher([NEW])
    one, two = cipher.encrypt(b"one", b""), cipher.encrypt(b"two", b"")
    with pytest.raises(Tampered):
        cipher.decrypt(one[HEAD] + two[24:], b"")


# -- keys ------------------------------------------------------------------------------------


def test_another_key_does_not_open_it() -> None:
    sealed = Cipher([NEW]).encrypt(b"body", b"")
    with pytest.raises(Tampered, match=f"none of the 1 .* id {sealed[:4].hex()}"):
        Cipher([OTHER]).decrypt(sealed, b"")


def test_another_key_does_not_open_it_either_when_it_pretends_to_be_the_right_one() -> None:
    sealed = Cipher([NEW]).encrypt(b"body", b"")
    other = Cipher([OTHER])
    with pytest.raises(Tampered, match="changed"):
        other.decrypt(other.encrypt(b"", b"")[:4] + sealed[4:], b"")


def test_keys_are_changed_without_a_message_that_cannot_be_read() -> None:
    steps = [Cipher(keys) for keys in ([OLD], [OLD, NEW], [NEW, OLD], [NEW])]
    for before, after in pairwise(steps):
        for sender, receiver in ((before, after), (after, before), (after, after)):
            assert receiver.decrypt(sender.encrypt(b"body", b""), b"") == b"body"
    with pytest.raises(Tampered):
        steps[3].decrypt(steps[0].encrypt(b"body", b""), b"")


def test_text_and_its_bytes_are_the_same_key() -> None:
    sealed = Cipher(["schlüssel des tests"]).encrypt(b"body", b"")
    assert Cipher(["schlüssel des tests".encode()]).decrypt(sealed, b"") == b"body"


def test_keys_are_read_from_a_url_in_their_order() -> None:
    assert parse_keys(f"{NEW},{OLD}") == [NEW, OLD]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ([], "not a list of one key or more"),
        (NEW, "not a list"),
        (NEW.encode(), "not a list"),
        (7, "not a list"),
        (None, "not a list"),
        ([NEW, 7], "key 2 of encryption_keys is of int"),
        ([NEW, "short secret"], "key 2 of encryption_keys has 12 bytes, expected at least 16"),
        ([""], "token_urlsafe"),
        ([NEW, OLD, NEW.encode()], "the same key twice"),
    ],
)
def test_keys_that_are_none_are_refused(keys: list[str], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as caught:
        Cipher(keys)
    assert NEW not in str(caught.value)
    assert "short secret" not in str(caught.value)


def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.hashes", None)
    with pytest.raises(ConfigurationError, match=r"busway\[encryption\]"):
        Cipher([NEW])


# -- nonces ----------------------------------------------------------------------------------


def nonces(sealed: list[bytes]) -> set[bytes]:
    """Return the different salts with numbers."""
    return {each[4:24] for each in sealed}


def test_no_nonce_is_used_twice_by_threads() -> None:
    cipher = Cipher([NEW])
    with ThreadPoolExecutor(4) as pool:
        sealed = list(pool.map(lambda _: cipher.encrypt(b"", b""), range(2000)))
    assert len(nonces(sealed)) == 2000


def test_no_nonce_is_used_twice_when_the_numbers_are_used_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encryption, "_LAST_NUMBER", 9)
    cipher = Cipher([NEW])
    with ThreadPoolExecutor(4) as pool:
        sealed = list(pool.map(lambda _: cipher.encrypt(b"x", b""), range(200)))
    assert len(nonces(sealed)) == 200
    assert max(each[20:24] for each in sealed) == (9).to_bytes(4)
    assert all(cipher.decrypt(each, b"") == b"x" for each in sealed)


def test_no_nonce_is_used_twice_after_a_fork() -> None:
    code = (
        "import os\n"
        "from busway.bus.encryption import Cipher\n"
        f"cipher = Cipher([{NEW!r}])\n"
        "print(cipher.encrypt(b'', b'').hex(), flush=True)\n"
        "if os.fork(): os.wait()\n"
        "print(cipher.encrypt(b'', b'').hex(), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, in_child, in_parent = map(bytes.fromhex, done.stdout.split())
    assert before[4:20] == in_parent[4:20] != in_child[4:20], "the child has the same salt"
    assert len(nonces([before, in_child, in_parent])) == 3
    assert Cipher([NEW]).decrypt(in_child, b"") == b""


def test_messages_of_many_processes_are_read_in_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encryption, "_MOST_OPENERS", 5)
    reader = Cipher([NEW])
    for _ in range(20):
        assert reader.decrypt(Cipher([NEW]).encrypt(b"body", b""), b"") == b"body"
    assert len(reader._openers) <= 5


def test_a_flood_of_forgeries_displaces_nothing() -> None:
    reader, writer = Cipher([NEW]), Cipher([NEW])
    sealed = writer.encrypt(b"body", b"")
    reader.decrypt(sealed, b"")
    known = dict(reader._openers)
    for _ in range(100):
        with pytest.raises(Tampered):
            reader.decrypt(sealed[:4] + os.urandom(16) + sealed[20:], b"")
    assert reader._openers == known


# -- the format, for other languages ---------------------------------------------------------


def hkdf(key: bytes, purpose: bytes, length: int) -> bytes:
    """Return what RFC 5869 says, by its own words."""
    pseudo_random = hmac.digest(bytes(32), key, hashlib.sha256)
    found = last = b""
    for number in count(1):
        last = hmac.digest(pseudo_random, last + purpose + bytes([number]), hashlib.sha256)
        found += last
        if len(found) >= length:
            break
    return found[:length]


def test_a_body_is_what_the_description_of_the_format_says() -> None:
    salt, number = bytes(range(16)), (7).to_bytes(4)
    key = hkdf(NEW.encode(), b"busway body " + salt, 32)
    sealed = AESGCM(key).encrypt(bytes(8) + number, b"body", channel_context("chat"))
    sealed = hkdf(NEW.encode(), b"busway key id", 4) + salt + number + sealed
    assert Cipher([OLD, NEW]).decrypt(sealed, channel_context("chat")) == b"body"
