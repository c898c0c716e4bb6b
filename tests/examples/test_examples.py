"""The example applications for Django, in a real browser on a real `runserver`."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from demo.browsers import CHROMIUM, DESKTOP, PHONE, Visitor, chromium
from services import Service

Image = pytest.importorskip("PIL.Image")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM.exists() and not os.environ.get("CI"), reason=f"there is no {CHROMIUM}"
    ),
]

EXAMPLES = Path(__file__).parents[2] / "examples"
MADE = shutil.ignore_patterns("db.sqlite3*", "media", "__pycache__")
REFUSED = "the server responded with a status of 400"
"""What browsers have to say of an upload that is no picture."""
HEADLINE = "Busway goes to town"

Visit = Callable[..., Page]


def manage(directory: Path, *words: str) -> Service:
    """Run a command of the project."""
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DJANGO_SUPERUSER_PASSWORD": "grace",
    }
    command = [sys.executable, "manage.py", *words]
    return Service(command, cwd=directory, environment=environment)


def finish(directory: Path, *words: str) -> str:
    """Run a command of the project to its end; returns what it printed."""
    with manage(directory, *words) as service:
        assert service.ended() == 0, service.output
        service.all_ended()
        return service.output


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Return the address of the examples: a copy, with a database and a bus of its own."""
    place = Path(mkdtemp(prefix="busway-examples-"))  # a short path, for the sockets of the bus
    directory = Path(shutil.copytree(EXAMPLES, place / "examples", ignore=MADE))
    with (directory / "project" / "settings.py").open("a") as settings:
        config = {"directory": str(place / "bus"), "size": 8388608}
        settings.write(f"\nCHANNEL_LAYERS['default']['CONFIG'] |= {config}\n")
    views = directory / "news" / "views.py"
    assert "PATIENCE = 25.0" in views.read_text()
    views.write_text(views.read_text().replace("PATIENCE = 25.0", "PATIENCE = 2.0"))
    try:
        finish(directory, "migrate", "--verbosity", "0")
        assert finish(directory, "demo") == "Log in as demo with the password demo."
        grace = ("--username", "grace", "--email", "grace@example.com")
        finish(directory, "createsuperuser", "--noinput", *grace)
        with manage(directory, "runserver", "127.0.0.1:0", "--noreload") as service:
            yield service.expect(r"(http://\S+)/ serves HTTP and WebSockets, with 2 workers")[1]
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def cookies() -> dict[str, Any]:
    """Return the cookies of those who have logged in, by their names."""
    return {}


@pytest.fixture
def visit(browser: Browser, url: str, cookies: dict[str, Any]) -> Iterator[Visit]:
    """Let somebody log in and go to a page; their browser must have nothing to complain about."""
    visitors: list[Visitor] = []

    def visit(path: str, name: str = "demo", size: tuple[int, int] = DESKTOP) -> Page:
        visitor = Visitor(browser, url, name, size=size)
        visitors.append(visitor)
        visitor.context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        visitor.context.add_cookies(cookies.get(name, []))
        page = visitor.page
        page.goto(url + path)
        if name not in cookies:
            page.get_by_label("Username").fill(name)
            page.get_by_label("Password").fill(name)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(url + path)
            cookies[name] = visitor.context.cookies()
        return page

    yield visit
    for visitor in visitors:
        visitor.leave()
    complaints = [complaint for visitor in visitors for complaint in visitor.complaints]
    assert [found for found in complaints if REFUSED not in found] == []


def connected(page: Page) -> Page:
    """Wait until a page has its WebSocket."""
    expect(page.get_by_role("status")).to_have_text("Connected")
    return page


def add_in_admin(page: Page, path: str, **values: str) -> None:
    """Go to the admin's page `path`, fill in a form, and save it."""
    page.goto(urljoin(page.url, f"/admin/{path}"))
    for name, value in values.items():
        page.locator(f"[name={name}]").fill(value)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist .success")).to_be_visible()


def test_people_chat_in_a_room_of_the_admin(visit: Visit, url: str) -> None:
    ada = visit("/chat/")
    add_in_admin(ada, "chat/room/add/", title="Tea room", slug="tea")
    ada.goto(f"{url}/chat/")
    ada.get_by_role("link", name="Tea room").click()
    connected(ada)
    grace = connected(visit(urlsplit(ada.url).path, "grace", PHONE))
    for page in (ada, grace):
        expect(page.locator("#people")).to_have_text("demo, grace")
    ada.get_by_label("Message", exact=True).fill("Tea, <b>anyone</b>?")
    ada.get_by_role("button", name="Send").click()
    grace.get_by_label("Message", exact=True).fill("Yes, please")
    said = ["demo Tea, <b>anyone</b>?", "grace Yes, please"]
    expect(grace.locator("#posts li")).to_have_text(said[:1])
    grace.get_by_label("Message", exact=True).press("Enter")
    expect(ada.locator("#posts li")).to_have_text(said)
    ada.reload()
    expect(ada.locator("#posts li")).to_have_text(said)
    grace.goto(f"{url}/chat/")
    expect(ada.locator("#people")).to_have_text("demo")


def test_the_list_follows_the_admin_and_other_pages(visit: Visit, url: str) -> None:
    page = connected(visit("/tasks/"))
    other = connected(visit("/tasks/", "grace", PHONE))
    expect(page.locator("#tasks li")).to_have_count(3)
    admin = page.context.new_page()
    admin.goto(url)
    add_in_admin(admin, "tasks/task/add/", title="Feed the <cat>")
    task = page.get_by_label("Feed the <cat>")
    expect(task).not_to_be_checked()
    other.get_by_label("Feed the <cat>").check()
    expect(task).to_be_checked()
    admin.get_by_role("link", name="Feed the <cat>").first.click()
    expect(admin.get_by_label("Done")).to_be_checked()
    admin.get_by_label("Title").fill("Feed the dog")
    admin.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_label("Feed the dog")).to_be_checked()
    expect(task).to_have_count(0)
    admin.get_by_role("link", name="Feed the dog").first.click()
    admin.locator(".deletelink").click()
    admin.get_by_role("button", name="Yes").click()
    for each in (page, other):
        expect(each.locator("#tasks li")).to_have_count(3)
    page.get_by_label("New task").fill("Sleep")
    page.get_by_role("button", name="Add").click()
    expect(other.get_by_label("Sleep")).to_be_visible()


def test_news_come_to_a_request_that_waits(visit: Visit) -> None:
    page = visit("/news/", size=PHONE)
    expect(page.locator("#headlines li")).to_have_count(0)
    admin = visit("/news/", "grace")
    with page.expect_response(lambda response: response.status == 200):
        add_in_admin(admin, "news/headline/add/", text=HEADLINE)
    expect(page.locator("#headlines li")).to_have_text([HEADLINE])
    status = page.evaluate("async () => (await fetch('after/1000/')).status")
    assert status == 204


def test_an_upload_gets_a_thumbnail(visit: Visit) -> None:
    page = connected(visit("/thumbnails/"))
    other = connected(visit("/thumbnails/", "grace"))
    upload(page, picture())
    thumbnail = page.get_by_role("img", name="Picture")
    expect(thumbnail).to_be_visible()
    page.wait_for_function("document.querySelector('#pictures img').naturalWidth == 400")
    upload(page, b"this is no picture")
    expect(page.get_by_role("alert")).to_contain_text("Upload a valid image")
    upload(page, picture()[:-2000])
    expect(page.locator("#pictures .waiting")).to_contain_text("No thumbnail")
    page.reload()
    expect(page.locator("#pictures li")).to_have_count(2)
    expect(other.locator("#pictures li")).to_have_count(0)


def picture() -> bytes:
    """Return a picture with so much in it that it cannot be made small."""
    file = BytesIO()
    Image.effect_noise((800, 600), 60).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def upload(page: Page, content: bytes) -> None:
    """Upload a file as a picture."""
    file: FilePayload = {"name": "picture.jpg", "mimeType": "image/jpeg", "buffer": content}
    page.get_by_label("Picture", exact=True).set_input_files(file)
    with page.expect_response("**/upload/"):
        page.get_by_role("button", name="Upload").click()


def test_pages_fit_a_phone(visit: Visit, url: str) -> None:
    page = visit("/", size=PHONE)
    for path in ("/", "/chat/", "/chat/lobby/", "/tasks/", "/news/", "/thumbnails/"):
        page.goto(url + path)
        width, window = page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert width <= window, path
