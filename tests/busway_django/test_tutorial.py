"""The tutorial "A live page with Django", done as it says, in a real browser."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from playwright.sync_api import Locator, Page, expect

from demo.browsers import CHROMIUM, Visitor, chromium
from services import Service

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial" / "django.md").read_text()
FILES = re.findall(r'^```\w+ title="(.+?)"\n(.+?)^```', PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)
TWICE = 'F("votes") + 2'


class Reader:
    """Somebody who does what the page says, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, line: str) -> Service:
        """Run a command."""
        program, *words = shlex.split(line)
        start = {"django-admin": ["-m", "django"], "python": []}[program]
        return Service(
            [sys.executable, *start, *words],
            cwd=self.directory,
            environment={
                "PYTHONPATH": os.pathsep.join([str(self.directory), *filter(None, sys.path)]),
                "DJANGO_SETTINGS_MODULE": "" if program == "django-admin" else "mysite.settings",
                "DJANGO_SUPERUSER_PASSWORD": "secret",
            },
        )

    def finish(self, line: str) -> None:
        """Run a command to its end."""
        with self.run(line) as service:
            assert service.ended() == 0, service.output
            service.all_ended()

    def save(self, name: str, code: str) -> None:
        """Write a file, or add to it what the page says is to be added."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "mysite/settings.py":
            applications, layers = code.split("    # … those that are there\n]\n")
            written = path.read_text().replace("INSTALLED_APPS = [\n", applications, 1) + layers
            bus = {"CONFIG": {"directory": str(self.directory / "bus"), "size": 4194304}}
            path.write_text(f"{written}CHANNEL_LAYERS['default'].update({bus})\n")
        elif path.suffix == ".html" and path.exists():
            path.write_text(path.read_text() + code)
        else:
            path.write_text(code)


@pytest.fixture
def reader() -> Iterator[Reader]:
    """Return a reader who has done everything but to start the server."""
    directory = Path(mkdtemp(prefix="busway-tutorial-"))
    reader = Reader(directory)
    start, app, *rest = [line for line in COMMANDS if not line.startswith("pip ")]
    for line in (start, app):
        reader.finish(line)
    for name, code in FILES:
        reader.save(name, code)
    assert rest.pop() == "python manage.py runserver"
    for line in rest:
        reader.finish(line)
    yield reader
    shutil.rmtree(directory)


@pytest.mark.browser
@pytest.mark.skipif(
    not CHROMIUM.exists() and not os.environ.get("CI"), reason=f"there is no {CHROMIUM}"
)
def test_it_ends_with_a_live_page(reader: Reader) -> None:
    reader.finish("python manage.py createsuperuser --noinput --username ada --email a@example.com")
    server = reader.run("python manage.py runserver 127.0.0.1:0")
    with server, chromium() as browser:
        url = server.expect(r"(http://\S+)/ serves HTTP and WebSockets, with 2 workers")[1]
        visitors = [Visitor(browser, url, name) for name in ("ada", "grace")]
        for visitor in visitors:
            visitor.context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
            visitor.page.goto(url)
            visitor.page.wait_for_function("window.sockets.opened == 1")
        one, other = (visitor.page for visitor in visitors)
        tea(other).click()
        expect(result(one)).to_have_text("1")
        consumers = reader.directory / "poll" / "consumers.py"
        assert 'F("votes") + 1' in consumers.read_text()
        consumers.write_text(consumers.read_text().replace('F("votes") + 1', TWICE))
        server.expect(r"busway .* rolled$")
        tea(one).click()
        expect(result(other)).to_have_text("3")
        reset_in_admin(one.context.new_page(), url)
        for visitor in visitors:
            expect(result(visitor.page)).to_have_text("0")
            assert visitor.sockets == {"opened": 1, "closed": 0}
            assert visitor.complaints == []
            visitor.leave()


def tea(page: Page) -> Locator:
    """Return the button for tea."""
    return page.get_by_role("button", name="Tea")


def result(page: Page) -> Locator:
    """Return the number of votes for tea."""
    return page.get_by_role("status").first


def reset_in_admin(page: Page, url: str) -> None:
    """Set the votes for tea to 0."""
    page.goto(f"{url}/admin/poll/choice/1/change/")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Votes").fill("0")
    page.get_by_role("button", name="Save", exact=True).click()
