"""The WSGI application: what it makes of requests and replies, called as a server calls it."""

import hashlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from wsgiref.types import InputStream
from wsgiref.types import WSGIApplication as Application
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from app.harness import working
from busway import Message, RequestAborted, body_chunks, route, stream_response
from busway.bus.errors import ConfigurationError, LayerClosed
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.urls import open_layer
from busway.interfaces.web.options import CHUNK, WINDOW
from busway.interfaces.wsgi import ResponseBroken, WSGIApplication
from busway.interfaces.wsgi.environ import head_of
from interfaces import wsgi_site
from interfaces.web.harness import PATIENCE, Worker, nothing, private_bus

TYPE = (b"content-type", b"application/x-test")


@pytest.fixture
def layer() -> Iterator[ChannelLayer]:
    layer = MemoryChannelLayer()
    yield layer
    layer.close()


@pytest.fixture
def application(layer: ChannelLayer) -> Iterator[WSGIApplication]:
    with closing(WSGIApplication(layer)) as application:
        yield application


class Answer:
    """What an application answered: the head at once, the body when it is iterated over."""

    def __init__(self, application: Application, environ: dict[str, Any]) -> None:
        self.status = ""
        self.headers: dict[str, str] = {}
        # The validator of the standard library complains of whatever is not as PEP 3333 says.
        self._parts = validator(application)(environ, self._start)
        self._iterator = iter(self._parts)

    def _start(self, status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
        self.status, self.headers = status, dict(headers)
        return lambda _: None

    def __next__(self) -> bytes:
        return next(self._iterator)

    @property
    def body(self) -> bytes:
        """The whole of the body."""
        with closing(self):
            return b"".join(self._iterator)

    def close(self) -> None:
        """End it, as a server does whose client has gone."""
        close: Callable[[], None] = getattr(self._parts, "close", lambda: None)
        close()


def ask(
    application: Application,
    method: str = "GET",
    path: str = "/",
    *,
    body: bytes = b"",
    stream: InputStream | None = None,
    **environ: Any,
) -> Answer:
    """Make a request, with `environ` besides what every server gives."""
    given: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "wsgi.input": stream or io.BytesIO(body),
    }
    if body:
        given["CONTENT_LENGTH"] = str(len(body))
    given.update(environ)
    setup_testing_defaults(given)
    return Answer(application, {key: value for key, value in given.items() if value is not None})


def reply(*messages: dict[str, Any]) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """Return a script that answers with `messages`; the first gets a content type."""
    first, *rest = messages
    first = {"status": 200, "headers": [TYPE], **first}
    return lambda _: [first, *rest]


def find(worker: Worker, channel: str) -> dict[str, Any]:
    """Wait for a message on `channel`; those of other channels may come before it or behind."""
    worker._seen = 0
    found = worker.expect(channel)
    with worker._news:
        worker.got.remove((channel, found))
    return found


# -- requests -------------------------------------------------------------------------------


def test_a_request_is_a_message_in_the_format_of_the_web_interface_server(
    layer: ChannelLayer, application: WSGIApplication
) -> None:
    with Worker(layer, {"http.request": reply({"content": b"done"})}) as worker:
        answer = ask(
            application,
            "POST",
            "/caf\u00c3\u00a9",
            body=b"content",
            QUERY_STRING="a=%20b",
            CONTENT_TYPE="text/plain",
            HTTP_HOST="testserver",
            HTTP_X_REQUESTED_BY="me",
            REMOTE_ADDR="192.0.2.1",
            REMOTE_PORT="4711",
            SERVER_NAME="site",
            SERVER_PORT="8000",
            SERVER_PROTOCOL="HTTP/1.1",
        )
        assert (answer.status, answer.body) == ("200 OK", b"done")
        message = find(worker, "http.request")
    assert message.pop("reply_channel").startswith("wsgi.reply?")
    assert sorted(message.pop("headers")) == [
        [b"content-length", b"7"],
        [b"content-type", b"text/plain"],
        [b"host", b"testserver"],
        [b"x-requested-by", b"me"],
    ]
    assert message == {
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/café",
        "query_string": b"a=%20b",
        "root_path": "",
        "body": b"content",
        "client": ["192.0.2.1", 4711],
        "server": ["site", 8000],
    }


def test_a_mounted_application_tells_where(layer: ChannelLayer) -> None:
    mounted = WSGIApplication(layer, root_path="/told")
    with closing(mounted), Worker(layer, {"http.request": reply({})}) as worker:
        assert ask(mounted, path="/page", SCRIPT_NAME="/shop").body == b""
        message = find(worker, "http.request")
        assert (message["root_path"], message["path"]) == ("/shop", "/shop/page")
        assert ask(mounted, path="/page").body == b""
        message = find(worker, "http.request")
        assert (message["root_path"], message["path"]) == ("/told", "/page")


def test_the_client_behind_a_proxy_is_taken_from_headers_if_asked_for(layer: ChannelLayer) -> None:
    behind = WSGIApplication(layer, proxy_headers=True)
    with closing(behind), Worker(layer, {"http.request": reply({})}) as worker:
        headers: dict[str, Any] = {
            "HTTP_X_FORWARDED_FOR": "192.0.2.7",
            "HTTP_X_FORWARDED_PROTO": "https",
        }
        assert ask(behind, REMOTE_ADDR="", **headers).body == b""
        message = find(worker, "http.request")
    assert (message["client"], message["scheme"]) == (["192.0.2.7", 0], "https")


@pytest.mark.parametrize(
    ("status", "environ"),
    [
        ("400 Bad Request", {"CONTENT_LENGTH": "1e3"}),
        ("400 Bad Request", {"HTTP_X_ODD": "\x01"}),
        ("400 Bad Request", {"QUERY_STRING": "snowman=\u2603"}),
        ("411 Length Required", {"HTTP_TRANSFER_ENCODING": "chunked"}),
    ],
)
def test_requests_that_make_no_sense_never_get_to_the_bus(
    layer: ChannelLayer, application: WSGIApplication, status: str, environ: dict[str, str]
) -> None:
    # Without the validator, which would not let them through.
    given = {"wsgi.input": io.BytesIO(), "REQUEST_METHOD": "POST", **environ}
    heads: list[str] = []

    def start_response(status: str, *_: Any) -> Callable[[bytes], object]:
        heads.append(status)
        return lambda _: None

    setup_testing_defaults(given)
    assert b"".join(application(given, start_response))
    assert heads == [status]
    assert layer.statistics("http.request").messages_count == 0
    assert application.drops == {"refused request": 1}


def test_a_header_that_looks_like_the_length_is_not_taken_for_it() -> None:
    environ: dict[str, Any] = {"HTTP_CONTENT_LENGTH": "1", "HTTP_CONTENT_TYPE": "a"}
    assert head_of({**environ, "CONTENT_LENGTH": "2"}).headers == [(b"content-length", b"2")]


def test_a_request_that_finds_no_room_gets_503() -> None:
    layer = MemoryChannelLayer(policies={"http.request": {"capacity": 1}})
    layer.send("http.request", {})
    with closing(layer), closing(WSGIApplication(layer)) as application:
        answer = ask(application)
        assert answer.status == "503 Service Unavailable"
        assert answer.headers["retry-after"] == "1"
        assert answer.body == b"The service is busy. Try again."
        assert application.drops == {"refused request": 1}
        assert layer.statistics("http.disconnect").messages_count == 0


def test_a_request_that_is_too_large_for_a_message_gets_413() -> None:
    layer = MemoryChannelLayer(message_size=4096)
    with closing(layer), closing(WSGIApplication(layer)) as application:
        answer = ask(application, HTTP_X_LONG="x" * 4096)
        assert answer.status.startswith("413 ")
        assert answer.body == b"The request is too large."


def test_a_closed_layer_gets_503(layer: ChannelLayer, application: WSGIApplication) -> None:
    layer.close()
    answer = ask(application)
    assert answer.status == "503 Service Unavailable"
    assert answer.body


def test_a_request_that_nobody_answers_gets_503_and_is_called_off(layer: ChannelLayer) -> None:
    hasty = WSGIApplication(layer, http_timeout=0.05)
    with closing(hasty), Worker(layer, {"http.request": nothing}) as worker:
        answer = ask(hasty, path="/slow")
        assert (answer.status, answer.body) == (
            "503 Service Unavailable",
            b"Nobody answered in time.",
        )
        asked = find(worker, "http.request")
        assert find(worker, "http.disconnect") == {
            "reply_channel": asked["reply_channel"],
            "path": "/slow",
        }
        assert hasty.drops == {"unanswered request": 1}


def test_without_a_timeout_it_waits(layer: ChannelLayer) -> None:
    patient = WSGIApplication(layer, http_timeout=0)
    with closing(patient), ThreadPoolExecutor() as pool:
        answer = pool.submit(ask, patient)
        _, message = layer.receive(["http.request"], PATIENCE)
        assert message is not None
        layer.send(message["reply_channel"], {"status": 200, "headers": [TYPE]})
        assert answer.result(PATIENCE).body == b""


def test_options_out_of_range_are_refused(layer: ChannelLayer) -> None:
    with pytest.raises(ConfigurationError, match="root_path is 'shop'"):
        WSGIApplication(layer, root_path="shop")
    with pytest.raises(ConfigurationError, match="no channel layer for 'nowhere://'"):
        WSGIApplication("nowhere://")


# -- responses ------------------------------------------------------------------------------


def test_a_response_has_the_headers_that_are_a_workers_business(
    layer: ChannelLayer, application: WSGIApplication
) -> None:
    headers = [TYPE, (b"X-One", b"\xe9"), (b"Connection", b"upgrade"), (b"Upgrade", b"h2c")]
    script = reply({"status": 418, "headers": headers, "content": b"tea"})
    with Worker(layer, {"http.request": script}):
        answer = ask(application)
    assert answer.status == "418 I'm a Teapot"
    assert answer.headers == {
        "content-type": "application/x-test",
        "x-one": "é",
        "content-length": "3",
    }
    assert answer.body == b"tea"


def test_head_has_the_headers_of_get_and_no_body(
    layer: ChannelLayer, application: WSGIApplication
) -> None:
    with Worker(layer, {"http.request": reply({"content": b"four"})}) as worker:
        answer = ask(application, "HEAD")
        assert (answer.headers["content-length"], answer.body) == ("4", b"")
        length = (b"content-length", b"1000")
        worker.script["http.request"] = reply({"headers": [TYPE, length]})
        answer = ask(application, "HEAD")
        assert (answer.headers["content-length"], answer.body) == ("1000", b"")
        worker.script["http.request"] = reply(
            {"content": b"one", "more_content": True}, {"content": b"two"}
        )
        assert ask(application, "HEAD").body == b""
    assert not application.drops


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(
    layer: ChannelLayer, application: WSGIApplication, status: int
) -> None:
    headers = [(b"content-length", b"4"), (b"etag", b"1")]
    script = reply({"status": status, "headers": headers, "content": b"body"})
    with Worker(layer, {"http.request": script}):
        answer = ask(application)
    assert answer.body == b""
    assert answer.headers.pop("content-length", None) == ("4" if status == 304 else None)
    assert answer.headers == {"etag": "1"}


@pytest.mark.parametrize(
    "bad",
    [
        {"status": 1000},
        {"headers": [(b"x", b"injected\r\nset-cookie: a=b")]},
        {"headers": [(b"content-length", b"many")]},
        {"headers": [(b"content-length", b"1"), (b"content-length", b"2")], "content": b"1"},
        {"headers": [(b"content-length", b"2")], "content": b"three"},
        {"headers": [(b"content-length", b"20")], "content": b"three"},
        {"content": "text"},
    ],
)
def test_a_reply_that_cannot_be_sent_is_500(
    layer: ChannelLayer, application: WSGIApplication, bad: dict[str, Any]
) -> None:
    with Worker(layer, {"http.request": reply(bad)}) as worker:
        answer = ask(application)
        assert (answer.status, answer.body) == (
            "500 Internal Server Error",
            b"Internal server error.",
        )
        find(worker, "http.disconnect")
    assert application.drops == {"bad reply": 1}


def test_a_response_comes_part_by_part(layer: ChannelLayer, application: WSGIApplication) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask, application)
        _, message = layer.receive(["http.request"], PATIENCE)
        assert message is not None
        to = message["reply_channel"]
        acks = layer.new_channel("http.ack?")
        layer.send(to, {"status": 200, "headers": [TYPE], "more_content": True})
        answer = asked.result(PATIENCE)
        assert "content-length" not in answer.headers
        assert next(answer) == b""
        layer.send(to, {"content": b"one", "more_content": True, "ack_channel": acks})
        assert next(answer) == b"one"
        layer.send(to, {"content": b"two"})
        assert answer.body == b"two"
    assert layer.receive([acks]) == (acks, {"acked": 1})
    assert layer.statistics().messages_pending == 0


def test_a_response_that_breaks_off_raises_so_that_the_server_cuts_the_connection(
    layer: ChannelLayer,
) -> None:
    application = WSGIApplication(layer, http_timeout=0.05)
    script = reply({"content": b"one", "more_content": True})
    with closing(application), Worker(layer, {"http.request": script}) as worker:
        answer = ask(application)
        assert next(answer) == b"one"
        with pytest.raises(ResponseBroken, match="Nobody answered in time"):
            next(answer)
        find(worker, "http.disconnect")
        answer.close()
        length = (b"content-length", b"4")
        worker.script["http.request"] = reply(
            {"headers": [TYPE, length], "content": b"one", "more_content": True},
            {"content": b"two"},
        )
        answer = ask(application)
        assert next(answer) == b"one"
        with pytest.raises(ResponseBroken, match="bad reply"):
            next(answer)
        answer.close()
    assert application.drops == {"unanswered request": 1, "bad reply": 1}


def test_a_client_that_goes_ends_the_stream_and_leaves_nothing_on_the_bus(
    layer: ChannelLayer, application: WSGIApplication
) -> None:
    aborted, told = threading.Event(), threading.Event()

    def stream(message: Message) -> None:
        try:
            stream_response(message, iter(lambda: b"x" * 1000, b""), headers=[TYPE])
        except RequestAborted:
            aborted.set()
            raise

    routing = [route("http.request", stream), route("http.disconnect", lambda _: told.set())]
    with working(layer, routing):
        for before in (0, 1, 20):
            answer = ask(application)
            for _ in range(before):
                assert next(answer) == b"x" * 1000
            answer.close()
            answer.close()
            assert aborted.wait(PATIENCE)
            assert told.wait(PATIENCE)
            aborted.clear()
            told.clear()


def test_a_worker_is_never_far_ahead_of_a_slow_client(
    layer: ChannelLayer, application: WSGIApplication
) -> None:
    ahead: list[int] = []
    taken = 0

    def parts() -> Iterator[bytes]:
        for made in range(100):
            ahead.append(made - taken)
            yield b"part"

    def stream(message: Message) -> None:
        stream_response(message, parts(), headers=[TYPE])

    with working(layer, [route("http.request", stream)]):
        answer = ask(application)
        for _ in range(100):
            assert next(answer) == b"part"
            taken += 1
        assert answer.body == b""
    assert len(ahead) == 100
    assert max(ahead) <= WINDOW + 1


# -- bodies ---------------------------------------------------------------------------------


class Zeros(io.RawIOBase):
    """`size` bytes, in pieces of at most 100,000; then what a test wants."""

    def __init__(self, size: int, end: Callable[[], bytes] = bytes) -> None:
        self._left, self._end = size, end

    def read(self, size: int = -1) -> bytes:
        assert size > 0, "it would not be bounded"
        given = min(size, self._left, 100_000)
        self._left -= given
        return bytes(given) or self._end()


SIZE = 20_000_000


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, SIZE])
def test_a_body_of_any_size_arrives_whole(
    layer: ChannelLayer, application: WSGIApplication, size: int, *, known: bool
) -> None:
    sizes: list[int] = []

    def digest(message: Message) -> None:
        found = hashlib.sha256()
        for chunk in body_chunks(message):
            sizes.append(len(chunk))
            found.update(chunk)
        message.reply_channel.send({"status": 200, "headers": [TYPE], "content": found.digest()})

    length: dict[str, Any] = (
        {"CONTENT_LENGTH": str(size)} if known else {"wsgi.input_terminated": True}
    )
    with working(layer, [route("http.request", digest)]):
        answer = ask(application, "POST", stream=Zeros(size), **length)
        assert answer.body == hashlib.sha256(bytes(size)).digest()
    assert max(sizes, default=0) == min(size, CHUNK)
    assert layer.statistics().messages_pending == 0


def test_a_response_can_go_out_while_its_request_comes_in(
    layer: ChannelLayer, application: WSGIApplication
) -> None:
    def echo(message: Message) -> None:
        stream_response(message, body_chunks(message), headers=[TYPE])

    with working(layer, [route("http.request", echo)]):
        answer = ask(application, "POST", stream=Zeros(SIZE), CONTENT_LENGTH=str(SIZE))
        size = sum(len(part) for part in iter_and_close(answer))
    assert size == SIZE
    assert not application.drops


def iter_and_close(answer: Answer) -> Iterable[bytes]:
    with closing(answer):
        yield from answer._iterator


def test_an_answer_before_the_body_is_whole_takes_the_rest_off_the_bus(
    layer: ChannelLayer, application: WSGIApplication
) -> None:
    refuse = reply({"status": 403, "content": b"not you"})
    with Worker(layer, {"http.request": refuse}) as worker:
        answer = ask(application, "POST", stream=Zeros(SIZE), CONTENT_LENGTH=str(SIZE))
        assert (answer.status, answer.body) == ("403 Forbidden", b"not you")
        channel = find(worker, "http.request")["body_channel"]
    assert layer.receive([channel]) == (channel, {"closed": True})
    assert layer.statistics().messages_pending == 0


def timeout() -> bytes:
    raise TimeoutError


def timeout_of_uwsgi() -> bytes:
    raise OSError("timeout during read(10) on wsgi.input")


def broken() -> bytes:
    raise OSError("request data read error")


@pytest.mark.parametrize("before", [0, CHUNK + 1])
@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        (timeout, "408 Request Timeout", "stalled body"),
        (timeout_of_uwsgi, "408 Request Timeout", "stalled body"),
        (broken, "400 Bad Request", "refused request"),
        (bytes, "400 Bad Request", "refused request"),
    ],
)
def test_a_body_that_does_not_come(
    layer: ChannelLayer,
    application: WSGIApplication,
    before: int,
    end: Callable[[], bytes],
    status: str,
    reason: str,
) -> None:
    with Worker(layer, {"http.request": nothing}) as worker:
        stream = Zeros(before, end)
        answer = ask(application, "POST", stream=stream, CONTENT_LENGTH=str(2 * SIZE))
        assert answer.status == status
        assert answer.body
        if before:
            channel = find(worker, "http.request")["body_channel"]
            find(worker, "http.disconnect")
            assert layer.receive([channel]) == (channel, {"closed": True})
    assert application.drops == {reason: 1}
    assert layer.statistics().messages_pending == 0


def test_a_worker_that_takes_nothing_of_a_body_is_given_up(layer: ChannelLayer) -> None:
    application = WSGIApplication(layer, http_timeout=0.05)
    with closing(application), Worker(layer, {"http.request": nothing}) as worker:
        answer = ask(application, "POST", stream=Zeros(SIZE), CONTENT_LENGTH=str(SIZE))
        assert answer.status == "503 Service Unavailable"
        assert answer.body
        find(worker, "http.disconnect")


# -- many at a time -------------------------------------------------------------------------


def test_twenty_threads_get_their_own_answers(
    layer: ChannelLayer, application: WSGIApplication
) -> None:
    def visit(thread: int) -> None:
        for number in range(50):
            query = f"t{thread}-n{number}"
            answer = ask(application, path="/hello", QUERY_STRING=query)
            assert answer.body == query.upper().encode()

    with (
        working(layer, wsgi_site.routing, threads=2),
        ThreadPoolExecutor(20) as pool,
    ):
        for visits in [pool.submit(visit, thread) for thread in range(20)]:
            visits.result(PATIENCE * 3)
    assert not application.drops
    assert layer.statistics().messages_pending == 0


FORK = """
import os, sys
from interfaces.test_wsgi import ask
from interfaces.wsgi_site import make

def visit(query):
    assert ask(application, path="/hello", QUERY_STRING=query).body == query.upper().encode()

application = make()
visit("parent")
child = os.fork()
visit("parent again" if child else "child")
application.close()
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_process_goes_on_with_receivers_of_its_own() -> None:
    with (
        private_bus() as url,
        closing(open_layer(url)) as layer,
        working(layer, wsgi_site.routing),
    ):
        environment = {
            **os.environ,
            "BUSWAY_LAYER": url,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        subprocess.run(
            [sys.executable, "-W", "error", "-c", FORK],
            env=environment,
            check=True,
            timeout=PATIENCE * 3,
        )


def test_it_needs_no_server_of_busways_own() -> None:
    code = "import sys, busway.interfaces.wsgi; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    unwanted = {"uvicorn", "websockets", "uvloop", "httptools", "click", "busway.app"}
    assert not unwanted & set(found.stdout.split())


def test_closing_closes_a_layer_of_its_own_and_no_other(layer: ChannelLayer) -> None:
    with private_bus() as url:
        own = WSGIApplication(url)
        own.close()
        own.close()
        with pytest.raises(LayerClosed):
            own.layer.send("x", {})
    WSGIApplication(layer).close()
    layer.send("x", {})
