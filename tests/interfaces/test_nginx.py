"""The nginx configurations of the documentation: gunicorn for HTTP, Busway for WebSockets."""

import hashlib
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from interfaces.web.harness import PATIENCE, private_bus, session
from services import Service

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(
    NGINX is None and not os.environ.get("CI"), reason="there is no nginx"
)

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "how-to" / "beside-wsgi.md"
BY_PATH, BY_UPGRADE = re.findall(r"```nginx[^\n]*\n(.*?)```", PAGE.read_text(), re.DOTALL)

AROUND = """
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
{user}
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {site}
}}
"""
"""What a distribution's nginx.conf has around a site's configuration."""


class Shop(NamedTuple):
    """A shop that runs."""

    host: str
    code: str
    """Where HTTP is answered: "site" (in gunicorn) or "worker"."""
    config: str


def start_nginx(stack: ExitStack, directory: Path, config: str) -> str:
    """Start nginx with `config` on a free port; returns its host and port."""
    # It takes over a socket that listens, as in an upgrade, so there is no port for others to take.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        site = config.replace("listen 80;", f"listen {host};")
        site = site.replace("/run/shop", str(directory))
        file = directory / "nginx.conf"
        # Its workers have to reach sockets in a directory of this user's own.
        user = "user root;" if os.geteuid() == 0 else ""
        file.write_text(AROUND.format(directory=directory, site=site, user=user))
        fd = listening.fileno()
        stack.enter_context(
            Service(
                [NGINX or "nginx", "-p", str(directory), "-c", str(file), "-e", "stderr"],
                environment={"NGINX": f"{fd};"},
                pass_fds=[fd],
            )
        )
    return host


@pytest.fixture(scope="module", params=["site", "worker"])
def code(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """Start gunicorn and Busway on the sockets that nginx looks for."""
    with (
        private_bus() as bus,
        tempfile.TemporaryDirectory(prefix="busway-test-") as directory,
        ExitStack() as stack,
    ):
        environment = {
            "BUSWAY_LAYER": bus,
            "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, str(TESTS)])),
        }
        application = "site" if request.param == "site" else "adapter()"
        gunicorn = [sys.executable, "-m", "gunicorn", f"interfaces.nginx_site:{application}"]
        gunicorn += ["--bind", f"unix:{directory}/gunicorn.sock", "--no-control-socket"]
        gunicorn += ["--threads", "20"]
        busway = ["busway", "serve", "interfaces.nginx_site:routing", "--proxy-headers"]
        busway += ["--unix-socket", f"{directory}/busway.sock", "--workers", "1"]
        services = [
            stack.enter_context(Service(command, environment=environment))
            for command in (gunicorn, busway)
        ]
        services[0].expect("Booting worker")
        services[1].expect("is ready")
        yield request.param, Path(directory)
        assert "Traceback" not in services[0].output
        assert "Traceback" not in services[1].output


@pytest.fixture(scope="module", params=["by path", "by upgrade"])
def shop(code: tuple[str, Path], request: pytest.FixtureRequest) -> Iterator[Shop]:
    """Start nginx in front of them."""
    where, directory = code
    with ExitStack() as stack:
        config = BY_PATH if request.param == "by path" else BY_UPGRADE
        yield Shop(start_nginx(stack, directory, config), where, request.param)


FORGED = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "1"}


def test_http_is_answered_under_gunicorn(shop: Shop) -> None:
    with session(base_url=f"http://{shop.host}") as client:
        answer = client.get("/page", headers=FORGED)
    who = "site" if shop.code == "site" else "http://127.0.0.1"
    assert (answer.status_code, answer.text) == (200, f"{who} /page {shop.host}")


def test_sockets_are_answered_by_workers_who_know_the_client(shop: Shop) -> None:
    with connect(
        f"ws://{shop.host}/ws/orders",
        origin=Origin(f"http://{shop.host}"),
        additional_headers=FORGED,
    ) as client:
        assert client.recv(PATIENCE) == "ws://127.0.0.1"


def test_pages_of_other_sites_may_open_none(shop: Shop) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{shop.host}/ws/orders", origin=Origin("http://elsewhere.example"))
    assert refused.value.response.status_code == 403


def test_what_http_does_reaches_every_socket(shop: Shop) -> None:
    with (
        connect(f"ws://{shop.host}/ws/orders") as one,
        connect(f"ws://{shop.host}/ws/orders") as other,
        session(base_url=f"http://{shop.host}") as client,
    ):
        for socket_ in (one, other):
            assert socket_.recv(PATIENCE) == "ws://127.0.0.1"
        assert client.post("/order").status_code == 200
        for socket_ in (one, other):
            assert socket_.recv(PATIENCE) == "a new order"


def test_twenty_megabytes_arrive_whole(shop: Shop) -> None:
    body = bytes(20_000_000)
    with session(base_url=f"http://{shop.host}") as client:
        assert client.post("/digest", content=body).text == hashlib.sha256(body).hexdigest()


def test_a_path_can_serve_a_page_and_a_socket_if_nginx_chooses_by_upgrade(shop: Shop) -> None:
    with session(base_url=f"http://{shop.host}") as client:
        text = client.get("/ws/orders").text
    in_gunicorn = shop.code == "site" and shop.config == "by upgrade"
    assert text.startswith("site /ws/orders" if in_gunicorn else "http://127.0.0.1 /ws/orders")
