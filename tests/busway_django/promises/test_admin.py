"""Django's admin works through the bus, in a real browser."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Response, expect

from busway_django.promises.site import PASSWORD, USER, Site
from demo.browsers import CHROMIUM, PATIENCE, chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM.exists() and not os.environ.get("CI"), reason=f"there is no {CHROMIUM}"
    ),
]


class Visit:
    """A page, and everything that it loaded or complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.responses: dict[str, int] = {}
        self.complaints: list[str] = []
        page.on("response", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(request.url))

    def _note(self, response: Response) -> None:
        self.responses[response.url] = response.status


@pytest.fixture
def visit() -> Iterator[Visit]:
    """A browser."""
    with chromium() as browser, browser.new_context(locale="en-GB") as context:
        context.set_default_timeout(PATIENCE)
        yield Visit(context.new_page())


def test_a_day_in_the_admin(site: Site, visit: Visit, tmp_path: Path) -> None:
    site.runserver("--workers", "2")
    page = visit.page
    page.goto(f"{site.url}/admin/")
    log_in(page, "wrong")
    expect(page.get_by_text("Please enter the correct username and password")).to_be_visible()
    log_in(page, PASSWORD)
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()

    page.get_by_role("link", name="Documents", exact=True).click()
    expect(page.locator(".paginator")).to_contain_text("25 documents")
    expect(rows(page)).to_have_count(10)
    page.locator(".paginator a", has_text="3").click()
    expect(rows(page)).to_have_count(5)
    page.locator("#searchbar").fill("Paper 2")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("8 results")).to_be_visible()
    expect(rows(page)).to_have_count(8)

    page.get_by_role("link", name="Add document").click()
    page.get_by_label("Title").fill("Notes on the Analytical Engine")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    upload = tmp_path / "Zürich notes.txt"
    upload.write_bytes(os.urandom(3_000_000))  # in parts, and over Django's limit for memory
    page.locator("input[type=file]").set_input_files(upload)  # Django 6.1 has no label for it
    page.get_by_label("Title").fill("Notes, with a file")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    (stored,) = (site.directory / "media" / "documents").iterdir()
    assert stored.read_bytes() == upload.read_bytes()

    page.locator("#searchbar").fill("Notes")
    page.get_by_role("button", name="Search").click()
    expect(rows(page)).to_have_count(1)
    page.get_by_role("link", name="Notes, with a file").click()
    page.get_by_role("link", name="History").click()
    expect(page.get_by_text("Changed Title and File.")).to_be_visible()
    page.go_back()
    page.locator(".deletelink").click()
    page.get_by_role("button", name="Yes, I").click()
    expect(page.get_by_text("was deleted successfully")).to_be_visible()
    page.goto(f"{site.url}/admin/gallery/document/")
    expect(page.locator(".paginator")).to_contain_text("25 documents")

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_text("Thanks for spending some quality time")).to_be_visible()
    page.goto(f"{site.url}/admin/gallery/document/")
    expect(page.get_by_label("Username")).to_be_visible()

    static = {status for url, status in visit.responses.items() if "/static/" in url}
    assert static == {200}
    assert any(url.endswith("/admin/css/base.css") for url in visit.responses)
    assert any(url.endswith("/admin/js/core.js") for url in visit.responses)
    assert not [url for url, status in visit.responses.items() if status >= 500]
    assert visit.complaints == []
    assert "Traceback" not in site.output
    assert "error" not in site.output


def log_in(page: Page, password: str) -> None:
    """Fill in the form, and send it."""
    page.get_by_label("Username").fill(USER)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def rows(page: Page) -> Locator:
    """Return the rows of the list of documents."""
    return page.locator("#result_list tbody tr")
