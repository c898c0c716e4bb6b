"""Django's request from a message, and its body in parts."""

import hashlib
import json
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from django.http import UnreadablePostError
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from busway.app.exceptions import RequestAborted, RequestTimeout
from busway.app.message import Message
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.django.requests import AsgiRequest, BodyStream
from busway_django.harness import Browser, working


def make(layer: ChannelLayer | None = None, **fields: Any) -> AsgiRequest:
    """Return the request of a message."""
    content = {
        "reply_channel": "test.reply?x",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [[b"host", b"testserver"]],
        **fields,
    }
    return AsgiRequest(Message(content, "http.request", layer))


def in_parts(layer: ChannelLayer, *parts: dict[str, Any], **fields: Any) -> AsgiRequest:
    """Return a request whose body comes in `parts`."""
    channel = layer.new_channel("http.request.body?")
    for part in parts:
        layer.send(channel, part)
    return make(layer, method="POST", body_channel=channel, **fields)


def test_meta_says_what_wsgi_would() -> None:
    request = make(
        method="post",
        path="/a b/",
        query_string=b"x=1&x=2&y=%C3%A4",
        http_version="2",
        headers=[
            [b"host", b"example.com:8000"],
            [b"content-type", b"text/plain; charset=utf-8"],
            [b"content-length", b"0"],
            [b"x-forwarded-for", b"1.1.1.1"],
            [b"x-forwarded-for", b"2.2.2.2"],
        ],
        client=["10.0.0.1", 1234],
        server=["127.0.0.1", 8000],
    )
    assert request.method == "POST"
    assert request.META["REQUEST_METHOD"] == "POST"
    assert request.META["SERVER_PROTOCOL"] == "HTTP/2"
    assert request.META["REMOTE_ADDR"] == request.META["REMOTE_HOST"] == "10.0.0.1"
    assert request.META["SERVER_PORT"] == "8000"
    assert request.META["CONTENT_TYPE"] == "text/plain; charset=utf-8"
    assert request.META["HTTP_X_FORWARDED_FOR"] == "1.1.1.1,2.2.2.2"
    assert "HTTP_CONTENT_LENGTH" not in request.META
    assert request.headers["Host"] == "example.com:8000"
    assert request.content_type == "text/plain"
    assert request.GET.getlist("x") == ["1", "2"]
    assert request.GET["y"] == "ä"
    assert request.get_full_path() == "/a%20b/?x=1&x=2&y=%C3%A4"


def test_a_request_over_a_unix_socket_has_no_addresses() -> None:
    request = make(client=None, server=None)
    assert "REMOTE_ADDR" not in request.META
    assert request.META["SERVER_NAME"] == "unknown"


def test_cookies_of_several_headers_are_all_there() -> None:
    request = make(headers=[[b"cookie", b"a=1; b=2"], [b"cookie", b"c=3"]])
    assert request.COOKIES == {"a": "1", "b": "2", "c": "3"}


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
def test_is_secure_follows_the_scheme(scheme: str, secure: bool) -> None:
    assert make(scheme=scheme).is_secure() is secure


def test_is_secure_believes_the_proxy_that_the_settings_name(settings: Settings) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert make(headers=[[b"x-forwarded-proto", b"https"]]).is_secure()
    assert not make(scheme="http").is_secure()


@pytest.mark.parametrize(
    ("root", "path", "path_info", "full"),
    [
        ("", "/chat/", "/chat/", "/chat/"),
        ("/site", "/site/chat/", "/chat/", "/site/chat/"),
        ("/site/", "/site/chat/", "/chat/", "/site/chat/"),
        ("/site", "/chat/", "/chat/", "/site/chat/"),
        ("/site", "/site", "/", "/site/"),
        ("/site", "/sitemap.xml", "/sitemap.xml", "/site/sitemap.xml"),
    ],
)
def test_the_root_path_is_taken_off_the_path(
    root: str, path: str, path_info: str, full: str
) -> None:
    request = make(root_path=root, path=path)
    assert (request.path_info, request.path) == (path_info, full)
    assert request.META["SCRIPT_NAME"] == root.rstrip("/")
    assert request.META["PATH_INFO"] == path_info


def test_force_script_name_counts_before_the_root_path(settings: Settings) -> None:
    settings.FORCE_SCRIPT_NAME = "/forced/"
    request = make(root_path="/given", path="/forced/x/")
    assert (request.path_info, request.path) == ("/x/", "/forced/x/")


def test_an_encoding_set_later_counts_for_the_query() -> None:
    request = make(query_string=b"name=%E4")
    request.encoding = "latin-1"
    assert request.GET["name"] == "ä"


def test_a_form_without_a_length_is_read() -> None:
    request = make(
        method="POST",
        headers=[[b"content-type", b"application/x-www-form-urlencoded"]],
        body=b"a=1&b=2",
    )
    assert request.POST.dict() == {"a": "1", "b": "2"}


def test_a_body_in_one_message_is_read_whole_or_by_lines() -> None:
    assert make(method="POST", body=b"one\ntwo").body == b"one\ntwo"
    assert list(make(method="POST", body=b"one\ntwo")) == [b"one\n", b"two"]


def test_a_body_is_not_waited_for_before_it_is_used(layer: ChannelLayer) -> None:
    request = in_parts(layer)  # nothing has come, and nothing will
    assert request.GET == {}


def test_a_client_that_stops_sending_is_a_timeout(layer: ChannelLayer) -> None:
    class Hasty(AsgiRequest):
        body_receive_timeout = 0.01

    content = make(method="POST", body_channel="http.request.body?gone").message.content
    request = Hasty(Message(content, "http.request", layer))
    with pytest.raises(UnreadablePostError, match=r"0\.01 s"):
        _ = request.body
    assert isinstance(request.failure, RequestTimeout)


def test_a_client_that_goes_is_an_abort(layer: ChannelLayer) -> None:
    parts = {"content": b"begun", "more_content": True}, {"closed": True}
    request = in_parts(layer, *parts)
    assert request.read(5) == b"begun"
    with pytest.raises(UnreadablePostError, match="client is gone"):
        request.read()
    assert isinstance(request.failure, RequestAborted)


@pytest.fixture(scope="module")
def wide_layer() -> Iterator[ChannelLayer]:
    """Return a layer that has room for many parts of a body."""
    layer = MemoryChannelLayer(policies={"http.request.body*": {"capacity": 100}})
    yield layer
    layer.close()


def _stream(layer: ChannelLayer, parts: list[bytes]) -> BodyStream:
    channel = layer.new_channel("http.request.body?")
    for number, part in enumerate(parts):
        layer.send(channel, {"content": part, "more_content": number < len(parts) - 1})
    content = {"reply_channel": "x?y", "body_channel": channel}
    return BodyStream(Message(content, "http.request", layer), 0.0)


sizes = st.one_of(st.none(), st.integers(-1, 12))
steps = st.lists(st.tuples(st.sampled_from(["read", "readline"]), sizes), max_size=12)
bodies = st.lists(st.text(alphabet="ab\n", max_size=8).map(str.encode), min_size=1, max_size=8)


@given(parts=bodies, steps=steps)
def test_a_body_in_parts_reads_like_a_file(
    wide_layer: ChannelLayer, parts: list[bytes], steps: list[tuple[str, int | None]]
) -> None:
    stream, file = _stream(wide_layer, parts), BytesIO(b"".join(parts))
    for method, size in steps:
        assert getattr(stream, method)(size) == getattr(file, method)(size)
    assert list(stream) == list(file)
    assert stream.read() == b""
    assert not stream.seekable()


@given(cuts=st.lists(st.integers(0, 700), max_size=6), newline=st.sampled_from(["\r\n", "\n"]))
def test_a_multipart_form_is_read_across_the_borders_of_parts(
    wide_layer: ChannelLayer, cuts: list[int], newline: str
) -> None:
    data = bytes(range(256)) * 2 + b"\r\n--frontie"
    body = (
        b'--frontier\r\nContent-Disposition: form-data; name="title"\r\n\r\n'
        + f"a{newline}b".encode()
        + b'\r\n--frontier\r\nContent-Disposition: form-data; name="file"; filename="x.bin"'
        + b"\r\nContent-Type: application/octet-stream\r\n\r\n"
        + data
        + b"\r\n--frontier--\r\n"
    )
    borders = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    parts = [body[start:end] for start, end in pairwise(borders)]
    request = in_parts(
        wide_layer,
        *(
            {"content": part, "more_content": number < len(parts)}
            for number, part in enumerate(parts, start=1)
        ),
        headers=[
            [b"content-type", b"multipart/form-data; boundary=frontier"],
            [b"content-length", str(len(body)).encode()],
        ],
    )
    assert request.POST["title"] == f"a{newline}b"
    uploaded = request.FILES["file"]
    assert uploaded.name == "x.bin"
    assert uploaded.read() == data


@pytest.mark.urls("busway_django.project.view_urls")
def test_a_large_body_comes_in_parts_and_is_never_whole_in_memory(
    layer: ChannelLayer, browser: Browser
) -> None:
    part = bytes(range(256)) * 1024
    with working(layer):
        channel = layer.new_channel("http.request.body?")
        browser.send("/digest/", "POST", body_channel=channel)
        receiver = layer.receiver()
        for number in range(20):
            _send_when_there_is_room(
                layer, channel, {"content": part, "more_content": number < 19}, receiver
            )
        receiver.close()
        response = browser.response()
    assert json.loads(response.text) == [20 * len(part), hashlib.sha256(part * 20).hexdigest()]


def _send_when_there_is_room(
    layer: ChannelLayer, channel: str, message: dict[str, Any], receiver: Any
) -> None:
    from busway.bus.operations import Send

    while receiver.exchange((Send(channel, message),), wake_below=1).refused:
        assert receiver.wait(20)
