"""The WSGI application under a real gunicorn, with real workers behind it."""

import hashlib
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from interfaces.web.harness import RawClient, private_bus, session
from interfaces.wsgi_site import CHUNK
from services import PATIENCE, Service

UPLOAD = 20_000_000
CHUNKS = 80
"""256 KiB each: 20 MiB."""

ALLOWANCE = 8 * 1024
"""KiB that a process may grow by for 20 MB: the windows, and what Python keeps of them."""


def peak_memory(pid: int) -> int:
    """Return the most memory that a process had of its own so far, without the bus, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = {name: int(size) for name, size in re.findall(r"(\w+):\s+(\d+) kB", status)}
    return found["VmHWM"] - found["RssShmem"]


class Site:
    """A gunicorn in front of a worker, on a bus and a port of their own."""

    def __init__(self, stack: ExitStack, bus: str, *options: str) -> None:
        tests = Path(__file__).parents[1]
        environment = {
            "BUSWAY_LAYER": bus,
            "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, str(tests)])),
        }
        self.worker = stack.enter_context(
            Service(["busway", "worker", "interfaces.wsgi_site:routing"], environment=environment)
        )
        self.worker.expect("consuming")
        # gunicorn takes over a socket that listens, so there is no port for others to take.
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port: int = listening.getsockname()[1]
            fd = listening.fileno()
            command = [sys.executable, "-m", "gunicorn", "interfaces.wsgi_site:make()"]
            command += ["--bind", f"fd://{fd}", "--no-control-socket", *options]
            self.gunicorn = stack.enter_context(
                Service(command, environment=environment, pass_fds=[fd])
            )
        self.pid = int(self.gunicorn.expect(r"Booting worker with pid: (\d+)")[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Stop it as its users would, and see that nothing went wrong unnoticed."""
        self.gunicorn.signal(signal.SIGTERM)
        assert self.gunicorn.ended() == 0
        self.worker.signal(signal.SIGTERM)
        assert self.worker.ended() == 0
        assert "Traceback" not in self.gunicorn.output
        assert "Traceback" not in self.worker.output


@pytest.fixture(params=["sync", "gthread", "preload"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    kind = request.param
    threads = ["--threads", "20"] if kind == "gthread" else []
    before_the_fork = ["--preload"] if kind == "preload" else []
    with private_bus() as bus, ExitStack() as stack:
        site = Site(stack, bus, *threads, *before_the_fork)
        yield site
        site.stop()


def test_requests_are_answered_by_workers_twenty_at_a_time(site: Site) -> None:
    def visit(number: int) -> None:
        with session(base_url=site.url) as client:
            for again in range(5):
                answer = client.get("/hello", params={"n": f"{number}-{again}"})
                assert (answer.status_code, answer.text) == (200, f"N={number}-{again}")

    with ThreadPoolExecutor(20) as pool:
        for visits in [pool.submit(visit, number) for number in range(20)]:
            visits.result(PATIENCE)
    with session(base_url=site.url) as client:
        answer = client.head("/hello?four")
        assert (answer.headers["content-length"], answer.content) == ("4", b"")
        assert client.get("/nowhere").status_code == 404


def test_twenty_megabytes_each_way_take_little_memory(site: Site) -> None:
    with session(base_url=site.url) as client:
        warm(client)
        before = [peak_memory(pid) for pid in (site.pid, site.worker.pid)]
        answer = client.post("/digest", content=bytes(UPLOAD))
        assert answer.text == hashlib.sha256(bytes(UPLOAD)).hexdigest()
        # Without a length: it goes in HTTP's own chunks.
        answer = client.post("/digest", content=(bytes(1000) for _ in range(UPLOAD // 1000)))
        assert answer.text == hashlib.sha256(bytes(UPLOAD)).hexdigest()
        answer = client.get(f"/download?{CHUNKS}")
        assert answer.content == CHUNK * CHUNKS
        after = [peak_memory(pid) for pid in (site.pid, site.worker.pid)]
    grown = [now - then for now, then in zip(after, before, strict=True)]
    assert max(grown) < ALLOWANCE, f"gunicorn and the worker grew by {grown} KiB"


def warm(client: httpx.Client) -> None:
    """Have everything used once, so that only what grows with the size is measured."""
    assert client.post("/digest", content=CHUNK).status_code == 200
    assert client.get("/download?1").content == CHUNK


def test_a_body_is_answered_while_it_comes(site: Site) -> None:
    with RawClient(site.port) as client, ThreadPoolExecutor() as pool:
        length = len(CHUNK) * CHUNKS
        # HTTP/1.0: gunicorn does not chunk the response.
        client.send(b"POST /echo HTTP/1.0\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length)
        sending = pool.submit(client.send, CHUNK * CHUNKS)
        assert client.read_head().startswith(b"HTTP/1.0 200 OK\r\n")
        for _ in range(CHUNKS):
            assert client.read(len(CHUNK)) == CHUNK
        sending.result(PATIENCE)


def test_a_client_that_goes_ends_its_stream_in_the_worker(site: Site) -> None:
    with RawClient(site.port) as client:
        client.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        client.read(1000)
    site.worker.expect("aborted")
    site.worker.expect("gone from /endless")
    assert httpx.get(f"{site.url}/hello?still").text == "STILL"


def test_a_client_that_goes_while_it_uploads_ends_the_reading(site: Site) -> None:
    with RawClient(site.port) as client:
        client.send(b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
        client.send(CHUNK * 2)
    site.worker.expect("gone from /digest")
    assert httpx.get(f"{site.url}/hello?still").text == "STILL"
