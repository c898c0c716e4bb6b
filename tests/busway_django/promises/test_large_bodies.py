"""Bodies of any size pass through views, and nobody needs the memory to hold them."""

import hashlib
import http.client
import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from busway_django.promises.conftest import LONG, MakeSite
from busway_django.promises.memory import LIMIT, Use, measured
from busway_django.promises.site import Site
from services import PATIENCE

MEGABYTES = 500 if LONG else 60
MB = 1 << 20


class Running(NamedTuple):
    """A site with one interface server and one worker."""

    site: Site
    pids: dict[str, int]


@pytest.fixture(scope="module")
def running(make_site: MakeSite) -> Running:
    """Return a site that has served a little of everything."""
    site = make_site()
    web, worker = site.runweb(), site.runworker()
    for path in ("/upload/", "/raw/"):
        download(site, f"/document/{upload(site, 2)['id']}/") if path == "/upload/" else raw(
            site, 2
        )
    download(site, "/stream/2/")
    return Running(site, {"interface server": web.pid, "worker": worker.pid})


@pytest.mark.soak
@pytest.mark.timeout(600 if LONG else 120)
def test_an_uploaded_file_is_stored_and_served_again_in_little_memory(running: Running) -> None:
    expected = digest_of(MEGABYTES)
    with measured(running.pids) as uses:
        stored = upload(running.site, MEGABYTES)
    assert (stored["size"], stored["digest"]) == (MEGABYTES * MB, expected)
    within_limit("an upload as a form", uses)
    with measured(running.pids) as uses:
        assert download(running.site, f"/document/{stored['id']}/") == (MEGABYTES * MB, expected)
    within_limit("a FileResponse", uses)


@pytest.mark.soak
@pytest.mark.timeout(600 if LONG else 120)
def test_a_body_that_a_view_reads_in_parts_takes_little_memory(running: Running) -> None:
    with measured(running.pids) as uses:
        assert raw(running.site, MEGABYTES) == {
            "size": MEGABYTES * MB,
            "digest": digest_of(MEGABYTES),
        }
    within_limit("a body that is read in parts", uses)


@pytest.mark.soak
@pytest.mark.timeout(600 if LONG else 120)
def test_a_streamed_response_takes_little_memory(running: Running) -> None:
    with measured(running.pids) as uses:
        assert download(running.site, f"/stream/{MEGABYTES}/") == (
            MEGABYTES * MB,
            digest_of(MEGABYTES),
        )
    within_limit("a StreamingHttpResponse", uses)


def within_limit(what: str, uses: dict[str, Use]) -> None:
    """Print how much memory was used, and check it."""
    for name, use in uses.items():
        print(  # noqa: T201  (the figures are the point)
            f"{what}, {MEGABYTES} MB: {name} {use.idle:.1f} MB idle, {use.peak:.1f} MB peak, "
            f"{use.growth:+.1f} MB"
        )
    assert all(use.growth < LIMIT for use in uses.values()), uses


def blocks(count: int) -> Iterator[bytes]:
    """Yield `count` different MB, as the project's view `stream` does."""
    block = bytearray(range(256)) * 4096
    for number in range(count):
        block[:8] = number.to_bytes(8)
        yield bytes(block)


def digest_of(count: int) -> str:
    """Return the digest of `blocks(count)`."""
    digest = hashlib.sha256()
    for block in blocks(count):
        digest.update(block)
    return digest.hexdigest()


def upload(site: Site, megabytes: int) -> dict[str, object]:
    """Send a form with a file; returns what the view says of it."""
    head = (
        b'--edge\r\nContent-Disposition: form-data; name="title"\r\n\r\nlarge\r\n'
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="large.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = b"\r\n--edge--\r\n"
    return post(site, "/upload/", "multipart/form-data; boundary=edge", head, megabytes, tail)


def raw(site: Site, megabytes: int) -> dict[str, object]:
    """Send a body; returns what the view says of it."""
    return post(site, "/raw/", "application/octet-stream", b"", megabytes, b"")


def post(
    site: Site, path: str, kind: str, head: bytes, megabytes: int, tail: bytes
) -> dict[str, object]:
    """Send `head`, some MB, and `tail`; returns the JSON of the answer."""
    connection = http.client.HTTPConnection(*site.address, timeout=PATIENCE)
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", kind)
    connection.putheader("Content-Length", str(len(head) + megabytes * MB + len(tail)))
    connection.endheaders(head or None)
    for block in blocks(megabytes):
        connection.send(block)
    if tail:
        connection.send(tail)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    assert response.status == 200, content
    found: dict[str, object] = json.loads(content)
    return found


def download(site: Site, path: str) -> tuple[int, str]:
    """Get a response; returns its size and digest."""
    connection = http.client.HTTPConnection(*site.address, timeout=PATIENCE)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    digest, size = hashlib.sha256(), 0
    while part := response.read(MB):
        digest.update(part)
        size += len(part)
    connection.close()
    return size, digest.hexdigest()
