"""What goes wrong is answered and logged, and the next one is served as if nothing had been."""

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from busway_django.promises.conftest import MakeSite
from busway_django.promises.site import Site
from services import PATIENCE

TITLE = b'--edge\r\nContent-Disposition: form-data; name="title"'


@pytest.fixture(scope="module")
def site(make_site: MakeSite) -> Site:
    """A site as in production: DEBUG is off, and there is one worker."""
    site = make_site("production")
    site.runweb()
    site.runworker("--verbosity", "2")
    return site


@pytest.fixture(scope="module")
def developed(make_site: MakeSite) -> Site:
    """A site under development: DEBUG is on."""
    site = make_site("developed")
    site.runserver("--workers", "1")
    return site


@pytest.fixture(autouse=True)
def _alive(request: pytest.FixtureRequest) -> Iterator[None]:
    """See after each test that its site serves, and that nobody has ended."""
    yield
    for name in {"site", "developed"} & {*request.fixturenames}:
        lively: Site = request.getfixturevalue(name)
        assert "q of the next" in httpx.get(f"{lively.url}/?q=q of the next", timeout=PATIENCE).text
        assert "died" not in lively.output


# -- views --------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["fail", "async_fail"])
def test_a_view_that_raises_is_answered_with_the_technical_page(developed: Site, view: str) -> None:
    path = f"/{view.replace('_', '/')}/"
    answer = httpx.get(f"{developed.url}{path}", timeout=PATIENCE)
    assert answer.status_code == 500
    assert answer.headers["content-type"].startswith("text/html")
    for shown in ("RuntimeError", "the view raises", f"gallery.views.{view}"):
        assert shown in answer.text
    logged(developed, f"Internal Server Error: {path}")


@pytest.mark.parametrize("path", ["/fail/", "/async/fail/"])
def test_a_view_that_raises_shows_nothing_without_debug(site: Site, path: str) -> None:
    answer = httpx.get(f"{site.url}{path}", timeout=PATIENCE)
    assert answer.status_code == 500
    assert "Server Error (500)" in answer.text
    assert "RuntimeError" not in answer.text


def test_a_view_that_raises_is_answered_with_the_page_of_the_project(make_site: MakeSite) -> None:
    site = make_site("with-page")
    site.write("templates/500.html", "<h1>Our own page</h1>")
    site.runweb()
    site.runworker()
    answer = httpx.get(f"{site.url}/fail/", timeout=PATIENCE)
    assert (answer.status_code, answer.text) == (500, "<h1>Our own page</h1>")


@pytest.mark.parametrize("path", ["/broken/", "/async/broken/"])
def test_a_stream_that_raises_is_cut_off(site: Site, path: str) -> None:
    status, head, body = exchange(site, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    if status != 500:  # its beginning may have gone out already; then it has no end
        assert status == 200
        assert "transfer-encoding: chunked" in head.lower()
        assert b"the beginning" in body
        assert not body.endswith(b"0\r\n\r\n")
    logged(site, f"on http.request '{path}' failed", "RuntimeError: the stream raises")


def test_a_path_that_is_not_there_is_404(site: Site, developed: Site) -> None:
    assert httpx.get(f"{site.url}/nowhere/", timeout=PATIENCE).status_code == 404
    answer = httpx.get(f"{developed.url}/nowhere/", timeout=PATIENCE)
    assert answer.status_code == 404
    assert "Using the URLconf" in answer.text


@pytest.mark.parametrize("which", ["site", "developed"])
@pytest.mark.parametrize(
    "path",
    [
        *("/%", "/%zz", "/%ff", "/%c3%28/", "/%00", "/%0d%0aSet-Cookie:%20a=b/", "/a\\b"),
        *("/static/%00.css", "/static/%ff.css", "/static/%2e%2e/%2e%2e/gallery/settings.py"),
        *("/static/../manage.py", "/tell-all/%ff%fe/", "//"),
    ],
)
def test_a_path_with_invalid_encoding_is_no_error(
    path: str, which: str, request: pytest.FixtureRequest
) -> None:
    site: Site = request.getfixturevalue(which)
    status, head, _ = exchange(site, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert status in (200, 400, 404)
    assert "set-cookie" not in head.lower()


def test_a_query_with_invalid_encoding_is_replaced(site: Site) -> None:
    status, _, body = exchange(site, b"GET /?q=%ff%zz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert status == 200
    assert body.endswith("\ufffd%zz".encode())


@pytest.mark.parametrize("name", ["x-large", "cookie"])
def test_a_huge_header_is_431(site: Site, name: str) -> None:
    head = f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{name}: {'a' * 100_000}\r\n\r\n"
    assert exchange(site, head.encode())[0] == 431


def test_a_header_under_the_limit_arrives(site: Site) -> None:
    assert httpx.get(site.url, headers={"x-large": "a" * 50_000}, timeout=PATIENCE).is_success


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "a b", "", "127.0.0.1:x"])
def test_a_wrong_host_is_400(site: Site, developed: Site, host: str) -> None:
    for each in (site, developed):
        head = f"GET /admin/ HTTP/1.1\r\nHost: {host}\r\n\r\n"
        assert exchange(each, head.encode())[0] == 400


def test_a_host_of_the_settings_is_served(site: Site) -> None:
    assert exchange(site, b"GET / HTTP/1.1\r\nHost: gallery.example\r\n\r\n")[0] == 200


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"multipart/form-data", b"no boundary"),
        (b"multipart/form-data; boundary=", b"--\r\n\r\n"),
        (b"multipart/form-data; boundary=edge", b""),
        (b"multipart/form-data; boundary=edge", b"--edge\r\nContent-Disposition: form-data"),
        (b"multipart/form-data; boundary=edge", b"--edge\r\nnonsense\r\n\r\nx\r\n--edge--"),
        (b"multipart/form-data; boundary=\xff", b"--\xff--"),
        (
            b"multipart/form-data; boundary=edge",
            TITLE + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n!\r\n--edge--",
        ),
        (
            b"multipart/form-data; boundary=edge",
            TITLE + b"\r\n\r\n" + b"x" * 3_000_000 + b"\r\n--edge--",
        ),
        (b"application/x-www-form-urlencoded", b"&".join([b"a=b"] * 2000)),
        (b"application/x-www-form-urlencoded; charset=nowhere", b"title=a"),
    ],
)
@pytest.mark.parametrize("path", ["/upload/", "/async/upload/"])
def test_a_malformed_form_is_refused(site: Site, path: str, kind: bytes, body: bytes) -> None:
    answer = httpx.post(
        f"{site.url}{path}", headers={b"content-type": kind}, content=body, timeout=PATIENCE
    )
    # By Django, or by the view where what could be understood has no file.
    assert answer.status_code == 400


def test_a_form_without_its_token_is_403(site: Site) -> None:
    answer = httpx.post(f"{site.url}/guarded/", data={"title": "a"}, timeout=PATIENCE)
    assert answer.status_code == 403


# -- consumers ----------------------------------------------------------------------------


def test_a_consumer_that_raises_is_logged_and_counted_and_its_socket_lives(
    make_site: MakeSite,
) -> None:
    site = make_site("failing")
    site.runweb()
    worker = site.runworker("--verbosity", "2")
    with site.socket("/fail/") as client:
        client.send("before")
        assert client.recv(PATIENCE) == "before"
        client.send("fail")
        client.send("after")
        assert client.recv(PATIENCE) == "after"
    worker.expect(r"error: gallery\.consumers\.fail on websocket\.receive '/fail/' failed")
    worker.expect("RuntimeError: the consumer raises")
    worker.expect("socket gone, /fail/")
    worker.signal(signal.SIGTERM)
    worker.expect(r"5 message\(s\) consumed, 1 failed")
    assert worker.ended() == 0


def test_a_consumer_that_raises_while_a_socket_connects_refuses_it(site: Site) -> None:
    with pytest.raises(InvalidStatus) as refusal, site.socket("/refusing/"):
        pass
    assert refusal.value.response.status_code == 500
    logged(site, "gallery.consumers.connect on websocket.connect '/refusing/' failed")


def test_a_reply_for_a_socket_that_has_gone_is_no_error(site: Site) -> None:
    with site.socket("/whoami/") as client:
        client.send("channel")
        channel = str(client.recv(PATIENCE))
        url = f"{site.url}/tell/{channel.replace('?', '%3F')}/"
        assert httpx.get(url, timeout=PATIENCE).text == "told"
        assert client.recv(PATIENCE) == "from a view"
    logged(site, "socket gone, /whoami/")
    before = site.output.count("Traceback")
    for _ in range(3):
        assert httpx.get(url, timeout=PATIENCE).text == "told"
    assert httpx.get(f"{site.url}/tell-all/anybody/", timeout=PATIENCE).text == "told"
    assert site.output.count("Traceback") == before


# -- clients that leave -------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/upload/", "/raw/", "/guarded/", "/async/upload/"])
def test_a_client_that_leaves_in_the_middle_of_an_upload(site: Site, path: str) -> None:
    before = site.output.count("Traceback")
    with dialled(site) as client:
        begin_upload(client, path)
        if path in ("/upload/", "/raw/"):
            logged(site, "upload begins")
    logged(site, "the client is gone before its request was answered")
    assert site.output.count("Traceback") == before
    assert not [*(site.directory / "uploading").iterdir()]


def test_an_upload_that_stalls_holds_up_no_async_views(site: Site) -> None:
    with dialled(site) as client:
        begin_upload(client, "/async/upload/")
        assert httpx.get(f"{site.url}/async/", timeout=PATIENCE).text == "hello"
    logged(site, "the client is gone before its request was answered")


@pytest.mark.parametrize("path", ["/endless/", "/async/endless/"])
def test_a_client_that_leaves_in_the_middle_of_a_download(site: Site, path: str) -> None:
    before = site.output.count("Traceback")
    with dialled(site) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        received = 0
        while received < 5_000_000:
            received += len(client.recv(1 << 20))
    logged(site, "stream closed", "the client is gone before its request was answered")
    assert site.output.count("Traceback") == before


def test_a_client_that_leaves_before_any_answer_of_a_hello(site: Site) -> None:
    before = site.output.count("Traceback")
    for _ in range(50):
        with dialled(site) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert site.output.count("Traceback") == before


def begin_upload(client: socket.socket, path: str) -> None:
    """Send the first 3 MB of a form that is said to have 100."""
    client.sendall(
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000000\r\n"
        "Content-Type: multipart/form-data; boundary=edge\r\n"
        f"Cookie: csrftoken={'a' * 32}\r\n\r\n"
        '--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
    )
    client.sendall(bytes(3_000_000))


def logged(site: Site, *texts: str) -> None:
    """Wait until the workers of `site` have printed `texts`, in any order."""
    awaited = {*texts}
    while awaited:
        awaited.remove(site.worker.expect("|".join(map(re.escape, awaited)))[0])


@contextmanager
def dialled(site: Site) -> Iterator[socket.socket]:
    """Open a connection for the length of a `with` block."""
    with socket.create_connection(site.address, PATIENCE) as client:
        yield client


def exchange(site: Site, request: bytes) -> tuple[int, str, bytes]:
    """Send the bytes of a request; returns the status, the head and the body of the answer."""
    with dialled(site) as client:
        client.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        answer = b""
        while part := client.recv(1 << 20):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode("latin-1"), body
