"""Bodies of any size pass through views, and nobody needs the memory to hold them."""

import hashlib
import http.client
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from busway_django.promises.conftest import LONG, MakeSite
from busway_django.promises.memory import LIMIT, Use, measured
from busway_django.promises.site import Site
from services import PATIENCE

MEGABYTES = 500 if LONG else 60
MB = 1 << 20
UPLOADS = ["/upload/", "/raw/", "/async/upload/"]
STREAMS = ["/stream/", "/async/stream/"]


class Running(NamedTuple):
    """A site with one interface server and one worker."""

    site: Site
    pids: dict[str, int]


@pytest.fixture(scope="module")
def running(make_site: MakeSite) -> Running:
    """Return a site that has served a little of everything."""
    site = make_site()
    web, worker = site.runweb(), site.runworker()
    for path in UPLOADS:
        upload(site, path, 2)
    download(site, "/document/26/")
    for path in STREAMS:
        download(site, f"{path}2/")
    return Running(site, {"interface server": web.pid, "worker": worker.pid})


@pytest.mark.soak
@pytest.mark.timeout(600 if LONG else 120)
@pytest.mark.parametrize("path", UPLOADS)
def test_an_upload_takes_little_memory(running: Running, path: str) -> None:
    with measured(running.pids) as uses:
        found = upload(running.site, path, MEGABYTES)
    assert (found["size"], found["digest"]) == (MEGABYTES * MB, digest_of(MEGABYTES))
    within_limit(f"upload to {path}", uses)


@pytest.mark.soak
@pytest.mark.timeout(600 if LONG else 120)
def test_a_file_response_takes_little_memory(running: Running) -> None:
    stored = upload(running.site, "/upload/", MEGABYTES)
    with measured(running.pids) as uses:
        found = download(running.site, f"/document/{stored['id']}/")
    assert found == (MEGABYTES * MB, digest_of(MEGABYTES))
    within_limit("FileResponse", uses)


@pytest.mark.soak
@pytest.mark.timeout(600 if LONG else 120)
@pytest.mark.parametrize("path", STREAMS)
def test_a_streamed_response_takes_little_memory(running: Running, path: str) -> None:
    with measured(running.pids) as uses:
        found = download(running.site, f"{path}{MEGABYTES}/")
    assert found == (MEGABYTES * MB, digest_of(MEGABYTES))
    within_limit(f"stream from {path}", uses)


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


def upload(site: Site, path: str, megabytes: int) -> dict[str, Any]:
    """Send a form with a file, or just a body to "/raw/"; returns what the view says of it."""
    if path == "/raw/":
        return post(site, path, "application/octet-stream", b"", megabytes, b"")
    head = (
        b'--edge\r\nContent-Disposition: form-data; name="title"\r\n\r\nlarge\r\n'
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="large.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = b"\r\n--edge--\r\n"
    return post(site, path, "multipart/form-data; boundary=edge", head, megabytes, tail)


def post(
    site: Site, path: str, kind: str, head: bytes, megabytes: int, tail: bytes
) -> dict[str, Any]:
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
    found: dict[str, Any] = json.loads(content)
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
