"""The examples of "Sessions, users and origins in Django"."""

import re
from pathlib import Path
from typing import Any

import pytest

from busway.app import route
from busway.django.security.websockets import BaseOriginValidator
from busway.django.tokens import issue_token
from busway_django.browsers import logged_in, make_user, routing_of
from busway_django.sockets import Socket

pytestmark = pytest.mark.django_db

PAGE = Path(__file__).parents[2] / "docs/how-to/django-sessions.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def example(words: str) -> dict[str, Any]:
    """Return what the one example with `words` defines."""
    (code,) = [code for code in EXAMPLES if words in code]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  (our own)
    return names


def routing(words: str) -> list[Any]:
    """Return a routing for the consumers of an example."""
    found = example(words)
    channels = ("connect", "receive", "disconnect")
    return [route(f"websocket.{channel}", found[channel]) for channel in channels]


def test_a_socket_keeps_its_room() -> None:
    socket = Socket(routing("channel_session["), path="/lobby/")
    assert socket.connect() == [{"accept": True}]
    assert socket.receive() == [{"text": "lobby"}]
    socket.disconnect()


def test_a_socket_knows_its_user() -> None:
    consumers = routing("channel_session_user_from_http")
    assert Socket(consumers).connect() == [{"accept": False}]
    _, cookies = logged_in(make_user())
    socket = Socket(consumers, cookies=cookies)
    assert socket.connect() == [{"accept": True}]
    assert socket.receive() == [{"text": "ada"}]
    socket.disconnect()
    assert not socket.counts.failed


def test_a_token_says_who_it_is() -> None:
    consumers = routing_of(example("import token_user\n\n\n@token_user\n")["consume"])
    offered = ["access_token", issue_token(make_user())]
    answer = {"accept": True, "text": "ada", "subprotocol": "access_token"}
    assert Socket(consumers, subprotocols=offered).connect() == [answer]


def test_a_web_token_may_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jwt")
    (tmp_path / "identity-provider.pem").write_text("a key")
    monkeypatch.chdir(tmp_path)
    (answer,) = Socket(routing_of(example("PUBLIC_KEY")["consume"])).connect()
    assert answer["status"] == 403


def test_a_validator_of_ones_own() -> None:
    validator = example("class Partners")["Partners"]()
    assert isinstance(validator, BaseOriginValidator)
    assert "CHANNEL_ORIGIN_VALIDATOR" in EXAMPLES[-1]
