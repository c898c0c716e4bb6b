"""`manage.py runserver`, as real processes."""

import re
import signal
import socket
from pathlib import Path

import pytest

from busway.bus.errors import ConfigurationError
from busway.django.management.commands.runserver import _explain, code_directories
from busway.interfaces.web.listening import listen_tcp
from busway_django.sites import Site


def test_it_serves_views_sockets_and_static_files(site: Site) -> None:
    service = site.serve()
    assert site.get().text == "first"
    assert site.get("/static/style.css").text == "body { color: teal }"
    assert "the view is broken" in site.get("/boom/").text
    socket = site.open()
    socket.send("hello")
    assert socket.recv(30) == "first hello"
    assert site.get("/who/").json()["module"] == "AsgiRequest"
    assert "with 2 workers; Ctrl-C stops it." in service.output
    assert "System check identified no issues" in service.output
    assert "Traceback" in service.output  # of the view that is broken
    assert '"GET /static/style.css HTTP/1.1" 200' in service.output
    assert '"WebSocket /" connected' in service.output


def test_a_change_of_code_keeps_sockets_open(site: Site) -> None:
    service = site.serve()
    socket = site.open()
    socket.send("hello")
    assert socket.recv(30) == "first hello"
    site.write("second")
    service.expect("changed: .*mysite/(urls|consumers).py")
    service.expect("rolled")
    socket.send("hello")
    assert socket.recv(30) == "second hello"
    assert site.get().text == "second"
    (site.directory / "mysite" / "consumers.py").write_text("this is no Python")
    service.expect("the new worker 1 did not start; the old ones stay")
    socket.send("hello")
    assert socket.recv(30) == "second hello"
    site.write("third")
    service.expect("rolled")
    socket.send("hello")
    assert socket.recv(30) == "third hello"


def test_ctrl_c_stops_everything(site: Site) -> None:
    service = site.serve("--workers", "1", "--noreload")
    socket = site.open()
    service.signal(signal.SIGINT)
    assert service.ended() == 0
    service.all_ended()
    socket.close()
    assert "Traceback" not in service.output
    assert "with 1 worker; Ctrl-C" in service.output


def test_without_threading_there_is_one_worker(site: Site) -> None:
    service = site.serve("--nothreading", "--noreload")
    service.expect("with 1 worker;")


def test_workers_can_be_run_on_their_own(site: Site) -> None:
    service = site.serve("--noworker", "--noreload")
    service.expect("with no workers; Ctrl-C stops it.")
    service.expect("Nothing is answered until `manage.py runworker` runs")
    worker = site.start("runworker")
    worker.expect("consuming .*http.disconnect, http.request")
    assert site.get().text == "first"
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


def test_requests_time_out_as_told(site: Site) -> None:
    site.serve("--noworker", "--noreload", "--http_timeout", "0.2")
    assert site.get().status_code == 503


def test_noasgi_is_djangos_own_server(site: Site) -> None:
    with listen_tcp("127.0.0.1", 0)[0] as probe:
        port = probe.getsockname()[1]
    service = site.start("runserver", f"127.0.0.1:{port}", "--noasgi", "--noreload")
    service.expect("Starting .*development server")
    service.expect("Quit the server")
    assert site.get("/who/", f"127.0.0.1:{port}").json()["module"] == "WSGIRequest"
    assert site.get("/static/style.css", f"127.0.0.1:{port}").status_code == 200


def test_nostatic_leaves_static_files_to_the_views(site: Site) -> None:
    site.serve("--nostatic", "--noreload", "--workers", "1")
    assert site.get("/static/style.css").status_code == 404


@pytest.mark.parametrize("insecure", [True, False])
def test_without_debug_static_files_need_insecure(site: Site, insecure: bool) -> None:
    site.set(DEBUG=False)
    site.serve("--noreload", "--workers", "1", *["--insecure"] * insecure)
    assert site.get("/static/style.css").status_code == (200 if insecure else 404)
    assert site.get("/boom/").text.strip().startswith("<!doctype html>")


def test_a_project_without_static_files_is_served(site: Site) -> None:
    site.set(INSTALLED_APPS=["busway.django"], STATIC_URL=None)
    site.serve("--noreload", "--workers", "1")
    assert site.get().text == "first"


def test_a_port_in_use_is_one_line_with_the_remedy(site: Site) -> None:
    with listen_tcp("127.0.0.1", 0)[0] as taken:
        port = taken.getsockname()[1]
        service = site.start("runserver", f"127.0.0.1:{port}", "--noreload")
        assert service.ended() == 1
        service.all_ended()
    last = service.output.splitlines()[-1]
    assert last == (
        f"CommandError: port {port} on 127.0.0.1 is in use; stop what listens there, "
        f"or choose another: manage.py runserver {port + 1}"
    )


@pytest.mark.parametrize(
    ("host", "port", "remedy"),
    [
        ("203.0.113.7", 8000, "choose one, for example manage.py runserver 127.0.0.1:8000"),
        ("no.such.host.invalid", 8000, "'no.such.host.invalid' is not an address"),
    ],
)
def test_an_address_that_cannot_be_used_is_explained(host: str, port: int, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        listen_tcp(host, port)
    assert remedy in _explain(caught.value, host, port)


@pytest.mark.parametrize(
    ("settings", "words", "error"),
    [
        (
            {"CHANNEL_LAYERS": {"default": "memory://"}},
            [],
            "stays in one process.*leave BACKEND out of CHANNEL_LAYERS",
        ),
        (
            {"CHANNEL_LAYERS": {"default": {"BACKEND": "asgi_ipc.IPCChannelLayer"}}},
            [],
            "use 'busway.bus.ipc.IPCChannelLayer'",
        ),
        ({}, ["--layer", "other"], "there is no channel layer 'other'"),
        ({}, ["--workers", "0"], "for none there is --noworker"),
    ],
)
def test_a_mistake_is_one_line(
    site: Site, settings: dict[str, object], words: list[str], error: str
) -> None:
    site.set(**settings)
    service = site.start("runserver", "127.0.0.1:0", "--noreload", *words)
    assert service.ended() == 1
    service.all_ended()
    last = service.output.splitlines()[-1]
    assert re.match(f"CommandError: .*{error}", last), service.output
    assert "Traceback" not in service.output


def test_a_mistake_in_the_code_stops_it_without_reloading(site: Site) -> None:
    (site.directory / "mysite" / "urls.py").write_text("urlpatterns = [7]")
    service = site.start("runserver", "127.0.0.1:0", "--noreload", "--skip-checks")
    assert service.ended() == 1
    service.all_ended()


def test_with_reloading_a_mistake_waits_to_be_mended(site: Site) -> None:
    service = site.serve()
    site.get()
    (site.directory / "mysite" / "settings.py").rename(site.directory / "settings.txt")
    service.expect("did not start; the old ones stay")
    assert site.get().text == "first"


def test_the_code_that_is_watched_is_the_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [str(tmp_path / "manage.py"), "runserver"])
    found = code_directories()
    assert tmp_path.resolve() in found
    here = Path(__file__).parent / "project"
    assert here.resolve() in found
    assert not any("site-packages" in path.parts for path in found)


def test_ipv6_addresses_are_written_as_in_urls(site: Site) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6")
    site.service = site.start("runserver", "[::1]:0", "--noreload", "--workers", "1")
    assert site.address.startswith("[::1]:")
    assert site.get().text == "first"


def test_options_that_make_no_sense_are_refused(site: Site) -> None:
    service = site.start("runserver", "--wrokers", "2")
    assert service.ended() == 2
    service.all_ended()
