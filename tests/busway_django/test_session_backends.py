"""Sessions that live on the bus."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.contrib.sessions.models import Session
from django.test import Client

from busway.bus.errors import MessageTooLarge
from busway.bus.ipc import IPCChannelLayer
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.operations import Send
from busway.django.layers import channel_layers
from busway.django.session_backends.bus import CHANNEL, CREATING, SessionStore

KEY = "k" * 32


@pytest.fixture(params=["memory", "ipc"], autouse=True)
def layer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChannelLayer]:
    """Let each kind of layer be the default one."""
    layer: ChannelLayer = MemoryChannelLayer() if request.param == "memory" else _ipc(tmp_path)
    before = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", before)
    layer.close()


def _ipc(directory: Path) -> IPCChannelLayer:
    return IPCChannelLayer(name="sessions", directory=str(directory), size=4 * 1024 * 1024)


def stored(**content: Any) -> str:
    """Return the key of a stored session."""
    session = SessionStore()
    session.update(content)
    session.save()
    assert session.session_key
    return session.session_key


def test_what_is_saved_is_loaded() -> None:
    key = stored(name="Ada")
    assert SessionStore(key)["name"] == "Ada"
    assert SessionStore(key)["name"] == "Ada"
    assert SessionStore().exists(key)


async def test_what_is_saved_is_loaded_in_async_code() -> None:
    session = SessionStore()
    await session.aset("name", "Ada")
    await session.asave()
    assert await SessionStore(session.session_key).aget("name") == "Ada"
    await session.aset("name", "Bob")
    await session.asave()
    await session.acycle_key()
    assert await SessionStore(session.session_key).aget("name") == "Bob"
    await session.adelete()
    assert not await session.aexists(session.session_key or "")
    with pytest.raises(UpdateError):
        await session.asave()


def test_saving_replaces_what_was_there(layer: ChannelLayer) -> None:
    key = stored(name="Ada")
    for name in ("Bob", "Eve"):
        session = SessionStore(key)
        session["name"] = name
        session.save()
    assert SessionStore(key)["name"] == "Eve"
    assert layer.statistics(CHANNEL + key).messages_pending == 1


def test_a_session_that_must_be_new_does_not_replace_another() -> None:
    key = stored(name="Ada")
    session = SessionStore(key)
    with pytest.raises(CreateError):
        session.save(must_create=True)
    assert SessionStore(key)["name"] == "Ada"
    session = SessionStore(KEY)
    session.save(must_create=True)
    with pytest.raises(CreateError):
        SessionStore(KEY).save(must_create=True)


def test_while_one_creates_it_another_cannot(layer: ChannelLayer) -> None:
    layer.exchange([Send(CREATING + KEY, {})])
    with pytest.raises(CreateError):
        SessionStore(KEY).save(must_create=True)


def test_of_many_who_create_it_at_once_one_succeeds(layer: ChannelLayer) -> None:
    def create(number: int) -> bool:
        session = SessionStore(KEY)
        session._session_cache = {"number": number}  # type: ignore[attr-defined]
        try:
            session.save(must_create=True)
        except CreateError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            created = list(pool.map(create, range(8)))
            assert created.count(True) == 1
            assert SessionStore(KEY)["number"] == created.index(True)
            SessionStore(KEY).delete()


def test_whoever_reads_while_others_save_always_finds_it() -> None:
    key = stored(count=0)

    def save(number: int) -> None:
        session = SessionStore(key)
        session["count"] = number
        session.save()

    def read(_: int) -> bool:
        return "count" in SessionStore(key)

    with ThreadPoolExecutor(8) as pool:
        saving = [pool.submit(save, number) for number in range(300)]
        assert all(pool.map(read, range(300)))
        for future in saving:
            future.result()


def test_a_deleted_session_is_not_brought_back() -> None:
    key = stored(name="Ada")
    session = SessionStore(key)
    session["name"] = "Bob"
    SessionStore().delete(key)
    with pytest.raises(UpdateError):
        session.save()
    assert not SessionStore().exists(key)
    SessionStore().delete(key)


def test_an_old_session_is_gone() -> None:
    session = SessionStore()
    session["name"] = "Ada"
    session.set_expiry(0.01)  # type: ignore[arg-type]
    session.save()
    key = session.session_key
    assert key
    until = time.monotonic() + 20
    while SessionStore().exists(key):
        assert time.monotonic() < until
    found = SessionStore(key)
    assert "name" not in found
    assert found.session_key is None
    fresh = SessionStore(key)
    fresh.save(must_create=True)
    assert SessionStore().exists(key)
    SessionStore.clear_expired()


@pytest.mark.parametrize("key", ["../../etc", "x" * 500, "A" * 32, "with space", "ä" * 10])
def test_a_strange_key_names_nothing(key: str) -> None:
    assert not SessionStore().exists(key)
    assert "name" not in SessionStore(key)
    SessionStore().delete(key)


def test_a_session_is_a_message_long_at_most() -> None:
    session = SessionStore()
    session["name"] = [str(n) for n in range(1_000_000)]
    with pytest.raises(MessageTooLarge):
        session.save()


def test_tampered_data_is_an_empty_session(layer: ChannelLayer) -> None:
    content = {"data": "nonsense", "expires": time.time() + 60, "save": ""}
    layer.send(CHANNEL + KEY, content)
    assert dict(SessionStore(KEY).items()) == {}


def test_a_process_that_is_killed_while_it_saves_leaves_it_whole(
    layer: ChannelLayer, tmp_path: Path
) -> None:
    if isinstance(layer, MemoryChannelLayer):
        pytest.skip("a memory layer lives in one process")
    key = stored(count=0)
    command = [sys.executable, "-m", "busway_django.session_process", str(tmp_path), key]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout
            assert process.stdout.readline() == b"saving\n"
            process.kill()
        assert SessionStore(key)["count"] >= 100
        assert layer.statistics(CHANNEL + key).messages_pending == 1


@pytest.mark.django_db
def test_a_site_can_keep_its_sessions_there(settings: Any, admin_user: Any) -> None:
    settings.SESSION_ENGINE = "busway.django.session_backends.bus"
    client = Client()
    client.force_login(admin_user)
    assert client.get("/admin/").status_code == 200
    assert client.post("/admin/logout/").status_code == 200
    assert client.get("/admin/").status_code == 302
    assert not Session.objects.exists()
