"""The browser client in a browser, while the service that it talks to dies and comes back."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from demo.browsers import CHROMIUM, chromium
from services import Service

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM.exists() and not os.environ.get("CI"), reason=f"there is no {CHROMIUM}"
    ),
]

Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Open the page, with options for its bridge; wait until that is connected."""
    errors: list[str] = []
    with ExitStack() as stack:

        def visit(url: str, options: str = "undefined") -> Page:
            context = stack.enter_context(browser.new_context())
            context.add_init_script(f"window.options = {options}")
            page = context.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(f"{url}/page/")
            expect(page).to_have_title("open")
            return page

        yield visit
    assert errors == []


@contextmanager
def serve(bus: Path, port: int = 0) -> Iterator[tuple[Service, str]]:
    """Run the service; returns it and its address."""
    command = ["busway", "serve", "js.pages:routing", "--port", str(port), "--workers", "1"]
    command += ["--verbosity", "2"]  # tells process ids
    environment = {
        "BUSWAY_LAYER": f"ipc://js?directory={bus}&size=8388608",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    with Service(command, cwd=Path(__file__).parents[1], environment=environment) as service:
        yield service, service.expect(r"http://\S+").group()


def say(page: Page, *texts: str) -> list[bool]:
    """Send messages; returns which of them left at once."""
    left: list[bool] = page.evaluate("(texts) => texts.map((text) => bridge.send({ text }))", texts)
    return left


def hears(page: Page, *texts: str) -> None:
    """Wait until exactly these messages came, in this order."""
    expect(page.locator("li")).to_have_text(list(texts))


def test_a_killed_interface_server_is_found_again(visit: Visit, tmp_path: Path) -> None:
    with serve(tmp_path) as (service, url):
        page = visit(url)
        assert say(page, "before") == [True]
        hears(page, "before")
        started = re.search(r"web started \(pid (\d+)\)", service.output)
        assert started, service.output
        os.kill(int(started[1]), signal.SIGKILL)
        expect(page).to_have_title("reconnecting")
        meanwhile = [f"meanwhile {number}" for number in range(50)]
        assert not any(say(page, *meanwhile))
        expect(page).to_have_title("open")
        assert say(page, "after") == [True]
        hears(page, "before", *meanwhile, "after")


def test_it_does_not_wait_when_the_network_is_back(visit: Visit, tmp_path: Path) -> None:
    with serve(tmp_path) as (service, url):
        page = visit(url, "{ minReconnectionDelay: 1e6, maxReconnectionDelay: 1e6 }")
        service.signal(signal.SIGTERM)
        service.ended()
    expect(page).to_have_title("reconnecting")
    say(page, "while away")
    with serve(tmp_path, port=int(url.rpartition(":")[2])):
        page.context.set_offline(True)
        page.context.set_offline(False)
        expect(page).to_have_title("open")
        hears(page, "while away")


def test_a_page_connects_to_its_own_path_until_it_closes(visit: Visit, tmp_path: Path) -> None:
    with serve(tmp_path) as (_, url):
        page = visit(url)
        assert page.evaluate("bridge.socket.url") == url.replace("http", "ws") + "/page/"
        page.evaluate("bridge.close()")
        expect(page).to_have_title("close")
        assert page.evaluate("bridge.socket") is None
