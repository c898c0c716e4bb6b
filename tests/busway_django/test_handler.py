"""Responses of Django's views, as messages."""

import json
import logging
from pathlib import Path

import pytest
from django.http import FileResponse, HttpRequest, HttpResponse
from django.urls import path
from pytest_django.fixtures import Settings

from busway.app.streaming import WINDOW
from busway.bus.layer import ChannelLayer
from busway.django.handler import AsgiHandler, ViewConsumer
from busway.django.requests import AsgiRequest
from busway_django.harness import Browser, working
from busway_django.project import view_urls

pytestmark = pytest.mark.urls("busway_django.project.view_urls")


def test_a_response_is_one_message_with_its_length(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer):
        response = browser.get("/")
    assert (response.status, response.text) == (200, "hello")
    assert response.header("content-length") == "5"
    assert response.header("content-type") == "text/html; charset=utf-8"


def test_what_the_client_sent_reaches_the_view(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer):
        response = browser.get(
            "/meta/?a=1",
            method="POST",
            body=b"b=2",
            headers=[("content-type", "application/x-www-form-urlencoded"), ("cookie", "c=3")],
            scheme="https",
        )
    found = json.loads(response.text)
    assert (found["get"], found["post"], found["cookies"]) == (
        {"a": ["1"]},
        {"b": ["2"]},
        {"c": "3"},
    )
    assert found["uri"] == "https://testserver/meta/?a=1"
    assert found["secure"]


def test_reversed_urls_have_the_prefix(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer):
        found = json.loads(browser.get("/site/meta/", root_path="/site").text)
    assert (found["path"], found["path_info"]) == ("/site/meta/", "/meta/")


def test_cookies_and_headers_are_sent(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer):
        response = browser.get("/cookies/")
    cookies = [value for name, value in response.headers if name == "Set-Cookie"]
    assert len(cookies) == 3
    assert "colour=red; HttpOnly; Path=/" in cookies
    assert response.header("x-own") == "ö"


def test_a_large_response_is_sent_in_chunks_with_a_window(
    layer: ChannelLayer, browser: Browser
) -> None:
    size = AsgiHandler.chunk_size * (WINDOW + 4)
    with working(layer):
        browser.send(f"/large/?size={size // 10}")
        first = [browser.receive() for _ in range(WINDOW)]
        assert browser.receive(0.05) is None, "more is under way than the window"
        for part in first:
            assert part is not None
            layer.send(part["ack_channel"], {"acked": 1})
        rest = browser_rest(browser)
    content = b"".join(part["content"] for part in first if part) + rest
    assert content == b"0123456789" * (size // 10)


def browser_rest(browser: Browser) -> bytes:
    """Read the chunks that follow."""
    content = b""
    while (part := browser.receive()) is not None:
        content += part["content"]
        if "ack_channel" in part:
            browser.layer.send(part["ack_channel"], {"acked": 1})
        if not part["more_content"]:
            break
    return content


@pytest.mark.parametrize("path", ["file", "async_file"])
def test_a_file_is_streamed_in_large_chunks(
    layer: ChannelLayer, browser: Browser, tmp_path: Path, path: str
) -> None:
    file = tmp_path / "data.bin"
    file.write_bytes(bytes(range(256)) * 4096)
    with working(layer):
        response = browser.get(f"/{path}/?name={file}")
    assert response.content == file.read_bytes()
    assert response.header("content-length") == str(256 * 4096)
    assert response.header("content-disposition") == 'attachment; filename="data.bin"'
    assert len(response.chunks) == 256 * 4096 // AsgiHandler.chunk_size + 1  # and the end


def test_a_stream_is_sent_part_by_part(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer):
        response = browser.get("/stream/")
    assert response.chunks == [b"part 0;", b"part 1;", b"part 2;", b""]
    assert not response.has_header("content-length")


def test_an_empty_stream_still_has_a_head(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer):
        response = browser.get("/stream/?count=0")
    assert (response.status, response.content) == (200, b"")


def test_head_gets_the_head_alone(layer: ChannelLayer, browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "data.bin"
    file.write_bytes(b"x" * 1000)
    with working(layer):
        plain = browser.get("/", method="HEAD")
        streamed = browser.get(f"/file/?name={file}", method="HEAD")
        endless = browser.get("/endless/?name=head", method="HEAD")
    assert (plain.content, plain.header("content-length")) == (b"", "5")
    assert (streamed.content, streamed.header("content-length")) == (b"", "1000")
    assert (endless.content, endless.has_header("content-length")) == (b"", False)


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_a_body_name_no_length(
    layer: ChannelLayer, browser: Browser, status: int
) -> None:
    with working(layer):
        response = browser.get(f"/empty/?status={status}")
    assert (response.status, response.content) == (status, b"")
    assert not response.has_header("content-length")


def test_an_async_stream_of_a_sync_view_is_not_gathered_first(
    layer: ChannelLayer, browser: Browser
) -> None:
    with working(layer):
        response = browser.get("/sync_view_async_stream/")
    assert len(response.chunks) == 4
    assert response.text.startswith("part 0 in ")


@pytest.mark.parametrize("path", ["/later/", "/alater/"])
def test_a_view_can_leave_the_answer_to_others(
    layer: ChannelLayer, browser: Browser, path: str
) -> None:
    with working(layer) as worker:
        browser.send(path)
        browser.wait_until(lambda: worker.statistics().consumed == 1)
        assert browser.receive(0) is None
        view_urls.waiting.remove(browser.reply_channel)
        for message in AsgiHandler.encode_response(HttpResponse("at last", status=201)):
            layer.send(browser.reply_channel, message)
        response = browser.response()
    assert (response.status, response.text) == (201, "at last")


@pytest.mark.parametrize("path", ["/again/", "/aagain/"])
def test_a_view_can_put_its_request_back(layer: ChannelLayer, browser: Browser, path: str) -> None:
    with working(layer) as worker:
        response = browser.get(f"{path}?name={browser.prefix[:-1]}")
    assert response.text == "now"
    assert view_urls.tries.count(browser.prefix[:-1]) == 2
    assert worker.statistics().requeued == 1


class Odd(bytes):
    """Content that is no plain bytes."""


class OddResponse(HttpResponse):
    """A response whose content is what no layer takes."""

    @property
    def content(self) -> bytes:
        return Odd(b"odd")

    @content.setter
    def content(self, value: object) -> None:
        del value


def odd(request: HttpRequest) -> HttpResponse:
    """Answer with that, or with headers that are a plain mapping."""
    if "headers" in request.GET:
        response = HttpResponse("plain")
        response.headers = {"X-A": "b"}  # type: ignore[assignment]
        return response
    return OddResponse()


urlpatterns = [path("odd", odd)]


@pytest.mark.urls(__name__)
def test_content_that_no_layer_takes_fails_its_request_alone(
    layer: ChannelLayer, browser: Browser
) -> None:
    with working(layer):
        assert browser.get("/odd").status == 500
        response = browser.get("/odd?headers")
    assert (response.status, response.text, response.header("x-a")) == (200, "plain", "b")


def test_encode_response_splits_large_ones() -> None:
    size = AsgiHandler.chunk_size
    parts = list(AsgiHandler.encode_response(HttpResponse(b"x" * (2 * size + 1))))
    assert [len(part["content"]) for part in parts] == [size, size, 1]
    assert [part["more_content"] for part in parts] == [True, True, False]
    assert ["status" in part for part in parts] == [True, False, False]


def test_encode_response_takes_files_and_nothing(tmp_path: Path) -> None:
    file = tmp_path / "data.txt"
    file.write_bytes(b"text")
    with file.open("rb") as opened:
        response = FileResponse(opened)
        assert [part["content"] for part in AsgiHandler.encode_response(response)] == [b"text"]
    assert [part["content"] for part in AsgiHandler.encode_response(HttpResponse())] == [b""]


@pytest.mark.parametrize("path", ["boom", "async_boom"])
@pytest.mark.parametrize("debug", [True, False])
def test_a_view_that_fails_is_answered_with_djangos_page(
    layer: ChannelLayer,
    browser: Browser,
    settings: Settings,
    path: str,
    debug: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.DEBUG = debug
    with working(layer):
        response = browser.get(f"/{path}/")
        assert browser.get("/").status == 200
    assert response.status == 500
    assert ("RuntimeError" in response.text) is debug
    assert "Server Error" in response.text or debug
    assert any(record.name == "django.request" for record in caplog.records)


@pytest.mark.parametrize("debug", [True, False])
def test_an_unknown_path_is_answered_with_djangos_page(
    layer: ChannelLayer, browser: Browser, settings: Settings, debug: bool
) -> None:
    settings.DEBUG = debug
    with working(layer):
        response = browser.get("/nowhere/")
    assert response.status == 404
    assert ("Using the URLconf" in response.text) is debug


def test_a_foreign_host_is_a_bad_request(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer):
        response = browser.get("/meta/", headers=[("host", "evil.test")])
    assert response.status == 400


def test_a_form_without_its_token_is_refused(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer):
        response = browser.get("/form/", method="POST", body=b"a=1", headers=[("cookie", "x=y")])
    assert response.status == 403


def test_a_client_that_stops_sending_gets_408(
    layer: ChannelLayer, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    class Hasty(AsgiRequest):
        body_receive_timeout = 0.01

    class HastyHandler(AsgiHandler):
        request_class = Hasty

    class HastyConsumer(ViewConsumer):
        handler_class = HastyHandler

    with working(layer, consumer=HastyConsumer()):
        browser.send("/digest/", "POST", body_channel="http.request.body?never")
        response = browser.response()
    assert response.status == 408
    worst = [record.levelno for record in caplog.records if record.levelno > logging.INFO]
    assert worst == [logging.WARNING]


def test_a_client_that_goes_is_not_answered_and_no_failure(
    layer: ChannelLayer, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    channel = layer.new_channel("http.request.body?")
    with working(layer) as worker:
        layer.send(channel, {"closed": True})
        browser.send("/digest/", "POST", body_channel=channel)
        assert Browser(layer).get("/").status == 200
        assert browser.receive(0) is None
    assert (worker.statistics().aborted, worker.statistics().failed) == (1, 0)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_stream_whose_client_goes_is_closed(layer: ChannelLayer, browser: Browser) -> None:
    name = browser.prefix[:-1]
    with working(layer) as worker:
        browser.send(f"/endless/?name={name}")
        part = browser.receive()
        assert part is not None
        layer.send(part["ack_channel"], {"disconnected": True})
        while browser.receive(0.2) is not None:
            pass
        assert Browser(layer).get("/where/").status == 200
    assert worker.statistics().aborted == 1
    assert name in view_urls.closed


def test_a_body_that_the_view_does_not_read_is_no_obstacle(
    layer: ChannelLayer, browser: Browser
) -> None:
    with working(layer):
        browser.post_in_parts("/peek/", [b"a", b"b"], "text/plain")
        assert browser.response().text == "not read"
