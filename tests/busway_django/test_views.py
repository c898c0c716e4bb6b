"""Where views run: in the worker's thread, or on its event loop."""

import json

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.test import override_settings

from busway.app.message import Message
from busway.app.routing import route
from busway.bus.layer import ChannelLayer
from busway.django.handler import AsyncAsgiHandler, ViewConsumer
from busway.django.views import Views, has_async_views, view_route
from busway_django.harness import Browser, working
from busway_django.project import view_urls
from busway_django.project.models import Note

pytestmark = pytest.mark.urls("busway_django.project.view_urls")


def test_a_sync_view_runs_in_the_consumer_thread(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer):
        found = json.loads(browser.get("/meta/").text)
    assert found["thread"].startswith("Thread-")  # the one that runs the worker


def test_requests_that_no_route_takes_go_to_the_views(
    layer: ChannelLayer, browser: Browser
) -> None:
    def health(message: Message) -> None:
        for part in AsyncAsgiHandler.encode_response(HttpResponse("healthy")):
            message.reply_channel.send(part)

    with working(layer, [route("http.request", health, path="^/health/$")]):
        assert browser.get("/health/").text == "healthy"
        assert "thread" in browser.get("/meta/").text


def test_an_async_view_runs_on_the_event_loop_without_a_hop(
    layer: ChannelLayer, browser: Browser
) -> None:
    with working(layer):
        first = json.loads(browser.get("/where/").text)
        second = json.loads(browser.get("/where/").text)
        by_class = browser.get("/class/").text
    assert first["thread"] == by_class == "busway-loop"
    assert first["loop"] == second["loop"]


def test_an_async_view_streams_from_the_event_loop(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer):
        response = browser.get("/async_stream/")
    assert response.text == "".join(f"part {number} in busway-loop;" for number in range(3))


def test_an_async_view_reads_its_form(layer: ChannelLayer, browser: Browser) -> None:
    with (
        override_settings(MIDDLEWARE=["django.middleware.common.CommonMiddleware"]),
        working(layer),
    ):
        response = browser.get(
            "/form/",
            method="POST",
            body=b"a=1",
            headers=[("content-type", "application/x-www-form-urlencoded")],
        )
    assert json.loads(response.text) == {"a": ["1"]}


def test_an_async_view_uses_the_database(
    file_database: None, layer: ChannelLayer, browser: Browser
) -> None:
    Note.objects.create(text="one")
    Note.objects.create(text="two")
    with working(layer):
        response = browser.get(f"/async_backend/?name={browser.prefix[:-1]}")
        assert json.loads(response.text) == {"notes": 2}
        assert browser.get("/async_rows/").text == "onetwo"
    assert view_urls.used.pop(browser.prefix[:-1]).connection is None, "it was left open"


class TagMiddleware:
    """Adds a header, and answers one path itself."""

    def __init__(self, get_response: object) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/tagged/":
            return HttpResponse("from the middleware")
        response: HttpResponse = self.get_response(request)  # type: ignore[operator]
        response["X-Tag"] = "seen"
        return response


@override_settings(MIDDLEWARE=[f"{__name__}.TagMiddleware"])
@pytest.mark.parametrize("path", ["/", "/where/", "/stream/", "/async_stream/"])
def test_middleware_is_around_every_kind_of_view(
    layer: ChannelLayer, browser: Browser, path: str
) -> None:
    with working(layer):
        assert browser.get(path).header("x-tag") == "seen"
        assert browser.get("/tagged/").text == "from the middleware"


@override_settings(ROOT_URLCONF="busway_django.project.urls")
def test_a_project_without_async_views_needs_no_event_loop() -> None:
    assert not has_async_views()
    assert isinstance(view_route(), ViewConsumer)


def test_a_project_with_async_views_gets_a_route_that_looks() -> None:
    assert has_async_views()
    assert isinstance(view_route(), Views)


def test_signals_with_sync_receivers_do_not_move_an_async_view(
    layer: ChannelLayer, browser: Browser
) -> None:
    from django.core.signals import request_finished, request_started

    seen: list[str] = []

    def started(**_: object) -> None:
        seen.append("started")

    def finished(**_: object) -> None:
        seen.append("finished")

    request_started.connect(started)
    request_finished.connect(finished)
    try:
        with working(layer):
            assert json.loads(browser.get("/where/").text)["thread"] == "busway-loop"
    finally:
        request_started.disconnect(started)
        request_finished.disconnect(finished)
    assert seen == ["started", "finished"]


def test_the_async_handler_answers_from_any_loop(layer: ChannelLayer, browser: Browser) -> None:
    from busway.app.message import Message

    browser.send("/where/")
    _, content = layer.receive(["http.request"])
    assert content is not None
    async_to_sync(AsyncAsgiHandler().handle)(Message(content, "http.request", layer))
    assert browser.response().status == 200


def test_async_receivers_of_djangos_signals_are_called(
    layer: ChannelLayer, browser: Browser
) -> None:
    from django.core.signals import request_finished, request_started

    seen: list[str] = []

    async def started(**_: object) -> None:
        seen.append("started")

    async def finished(**_: object) -> None:
        seen.append("finished")

    request_started.connect(started)
    request_finished.connect(finished)
    try:
        with working(layer):
            assert browser.get("/where/").status == 200
            assert browser.get("/meta/").status == 200
    finally:
        request_started.disconnect(started)
        request_finished.disconnect(finished)
    assert seen == ["started", "finished"] * 2
