"""The chat's pages over HTTP, and what `busway demo` leaves behind."""

import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from demo.chat import serve
from services import Service


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        serve(tmp_path_factory.mktemp("chat") / "state") as (_, url),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/room/tea/", 200), ("/none", 404)])
def test_head_and_get_have_the_same_headers(client: httpx.Client, path: str, status: int) -> None:
    had, asked = client.get(path), client.head(path)
    assert had.status_code == asked.status_code == status
    assert had.text.startswith("<!doctype html>")
    assert asked.content == b""
    for name in ("content-type", "content-length", "etag", "content-security-policy"):
        assert had.headers[name] == asked.headers[name]
    assert int(had.headers["content-length"]) == len(had.content)


def test_what_the_browser_has_is_not_sent_again(client: httpx.Client) -> None:
    first = client.get("/static/chat.css")
    again = client.get("/static/chat.css", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert client.get("/static/chat.css").content == first.content


def test_a_page_cannot_be_posted_to(client: httpx.Client) -> None:
    reply = client.post("/", content=b"x" * 1000)
    assert reply.status_code == 405
    assert reply.headers["allow"] == "GET, HEAD"
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("path", ["/static/..%2fstore.py", "/static/%2e%2e/store.py"])
def test_nothing_but_the_files_is_served(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_demo_starts_anew_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with TemporaryDirectory(prefix="busway-test-") as bus:
        layer = f"ipc://chat?directory={bus}&size=8388608"
        command = ["busway", "demo", "--port", "0", "--layer", layer]
        with Service(command, environment={"TMPDIR": str(tmp_path)}) as service:
            url = service.expect(r"http://[\w.:]+").group()
            assert httpx.get(url, timeout=30).status_code == 200
            assert [each.name[:12] for each in tmp_path.iterdir()] == ["busway-demo-"]
            service.signal(signal.SIGTERM)
            assert service.ended() == 0
    assert list(tmp_path.iterdir()) == []
