"""The chat in a real browser: two people, real workers, and what happens when these die."""

import itertools
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

import busway.demo
from demo.browsers import CHROMIUM, PHONE, Visitor, chromium
from demo.chat import serve
from services import is_running

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM.exists() and not os.environ.get("CI"), reason=f"there is no {CHROMIUM}"
    ),
]

Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A chat that nobody disturbs, for tests that have rooms of their own."""
    with serve(tmp_path_factory.mktemp("chat") / "state") as (_, url):
        yield url


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Let people visit the chat; their browsers must have had nothing to complain about."""
    visitors: list[Visitor] = []

    def visit(url: str, name: str, **options: Any) -> Visitor:
        visitors.append(Visitor(browser, url, name, **options))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.leave()
    assert [visitor.complaints for visitor in visitors] == [[] for _ in visitors]


def test_two_people_chat_while_workers_are_killed(visit: Visit, tmp_path: Path) -> None:
    with serve(tmp_path / "state") as (_, url):
        ada, bob = visit(url, "Ada").enter("tea"), visit(url, "Bob").enter("tea")
        ada.say("Hello Bob")
        bob.sees("Hello Bob")
        killed = set()
        for turn in range(4):
            victim = ada.worker
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)
            bob.say(f"Still here, {turn}?")
            ada.sees(f"Still here, {turn}?")
            ada.say(f"Still here, {turn}!")
            bob.sees(f"Still here, {turn}!")
            assert ada.worker != victim
        assert not any(is_running(pid) for pid in killed)
        for each in (ada, bob):
            assert each.sockets == {"opened": 1, "closed": 0}
            expect(each.status).to_have_text("Connected")
            expect(each.page.locator(".message")).to_have_count(9)


def test_editing_a_consumer_takes_effect_without_reconnecting(visit: Visit, tmp_path: Path) -> None:
    package = tmp_path / "chat"
    shutil.copytree(Path(busway.demo.__file__).parent, package)
    routing = package / "routing.py"
    routing.write_text(routing.read_text().replace("from busway.demo import", "from chat import"))
    consumers = package / "consumers.py"
    running = serve(
        tmp_path / "state", routing="chat.routing:routing", options=("--reload",), cwd=tmp_path
    )
    with running as (_, url):
        ada, bob = visit(url, "Ada").enter("tea"), visit(url, "Bob").enter("tea")
        ada.say("as I typed it")
        bob.sees("as I typed it")
        before = consumers.read_text()
        after = before.replace("text.strip()", "text.strip().upper()")
        assert after != before
        consumers.write_text(after)
        deadline = time.monotonic() + 30
        for turn in itertools.count():
            ada.say(f"louder {turn}")
            answer = bob.page.get_by_text(re.compile(f"^louder {turn}$", re.IGNORECASE))
            expect(answer).to_be_visible()
            if answer.inner_text() == f"LOUDER {turn}":
                break
            assert time.monotonic() < deadline, "the new code did not take effect"
        assert ada.sockets == bob.sockets == {"opened": 1, "closed": 0}


def test_the_list_of_people_follows_who_comes_and_goes(visit: Visit, url: str) -> None:
    ada = visit(url, "Ada").enter("presence")
    ada.sees_people("Ada")
    bob = visit(url, "Bob").enter("presence")
    ada.sees_people("Ada", "Bob")
    bob.sees_people("Ada", "Bob")
    expect(ada.log).to_contain_text("Bob joined")
    bob.leave()
    ada.sees_people("Ada")
    expect(ada.log).to_contain_text("Bob left")


def test_whoever_comes_late_sees_what_was_said(visit: Visit, url: str) -> None:
    ada = visit(url, "Ada").enter("history")
    for text in ("one", "two", "three"):
        ada.say(text)
        ada.sees(text)
    bob = visit(url, "Bob").enter("history")
    expect(bob.page.locator(".message .text")).to_have_text(["one", "two", "three"])


def test_the_page_reconnects_by_itself_after_a_restart(visit: Visit, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with serve(state) as (service, url):
        ada, bob = visit(url, "Ada").enter("tea"), visit(url, "Bob").enter("tea")
        bob.say("before the restart")
        ada.sees("before the restart")
        service.signal(signal.SIGTERM)
        service.ended()
        expect(ada.status).to_have_text("Connection lost, reconnecting…")
    ada.say("typed while the server was away")
    expect(ada.page.locator(".waiting")).to_have_count(1)
    port = int(url.rpartition(":")[2])
    with serve(state, port=port):
        for each in (ada, bob):
            expect(each.status).to_have_text("Connected")
            each.sees("before the restart")
            each.sees("typed while the server was away")
            each.sees_people("Ada", "Bob")
            assert each.sockets["opened"] == 2
        late = visit(url, "Cleo").enter("tea")
        expect(late.page.locator(".message .text")).to_have_text(
            ["before the restart", "typed while the server was away"]
        )


def test_a_connection_that_died_silently_is_replaced(visit: Visit, tmp_path: Path) -> None:
    with serve(tmp_path / "state") as (service, url):
        ada = visit(url, "Ada")
        ada.page.clock.install()
        ada.enter("tea")
        with ada.socket().expect_event("framereceived", lambda frame: "pong" in str(frame)):
            ada.page.clock.fast_forward(26_000)  # to the next ping
        ada.page.clock.fast_forward(10_000)  # longer than the patience for its answer
        assert ada.sockets == {"opened": 1, "closed": 0}
        os.killpg(service.pid, signal.SIGSTOP)
        ada.page.clock.fast_forward(26_000)
        ada.page.clock.fast_forward(10_000)
        expect(ada.status).to_have_text("Connection lost, reconnecting…")
        os.killpg(service.pid, signal.SIGCONT)
        expect(ada.status).to_have_text("Connected")
        ada.say("back again")
        ada.sees("back again")


def test_names_and_messages_with_html_are_shown_as_text(visit: Visit, url: str) -> None:
    name = "<img src=x onerror=a()>"
    text = "<script>document.title='!'</script><b>bold</b> &amp; &lt;"
    mallory = visit(url, name).enter("markup")
    ada = visit(url, "Ada").enter("markup")
    mallory.say(text)
    for each in (ada, mallory):
        each.sees(text)
        each.sees_people(name, "Ada")
        assert each.page.locator("#log b, #log script, img[src=x]").count() == 0
    expect(ada.page.locator(".who bdi")).to_have_text([name])
    ada.page.goto(url)
    expect(ada.page.get_by_role("link", name="markup")).to_be_visible()
    assert ada.page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(visit: Visit, url: str, dark: bool) -> None:
    room = f"a-very-long-name-of-a-room-{'dark' if dark else 'lite'}"
    wide = visit(url, "W" * 24).enter(room)
    phone = visit(url, "Ada, Countess Lovelace", size=PHONE, dark=dark).enter(room)
    wide.say("w" * 400)
    phone.say("https://example.org/" + "m" * 300)
    phone.sees("w" * 400)
    wide.sees("https://example.org/" + "m" * 300)
    expect(phone.box).to_be_in_viewport()
    expect(phone.page.get_by_role("button", name="Send")).to_be_in_viewport()
    _fits(phone)
    phone.page.goto(url)
    expect(phone.page.get_by_role("link", name=room)).to_be_visible()
    _fits(phone)


WIDER_THAN_THEIR_BOX = """
() => [...document.querySelectorAll("html, body, main, #log, .message, .text")]
  .filter((element) => getComputedStyle(element).display !== "inline")
  .filter((element) => element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 1)
  .map((element) => element.outerHTML.slice(0, 80))
"""


def _fits(visitor: Visitor) -> None:
    """Check that the page cannot be scrolled sideways, and that no part of it is cut off."""
    too_wide = visitor.page.evaluate(WIDER_THAN_THEIR_BOX)
    assert too_wide == []
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == PHONE[0]


def test_a_link_to_a_room_asks_for_a_name_first(visit: Visit, url: str) -> None:
    ada = visit(url, "Ada")
    ada.page.goto(f"{url}/room/linked/")
    expect(ada.page.get_by_label("Room", exact=True)).to_have_value("linked")
    ada.page.get_by_label("Your name").fill("Ada")
    ada.page.get_by_label("Your name").press("Enter")
    expect(ada.page.get_by_role("heading", name="linked")).to_be_visible()
    ada.sees_people("Ada")


def test_the_lobby_shows_rooms_as_they_fill_and_leads_into_them(visit: Visit, url: str) -> None:
    ada = visit(url, "Ada")
    ada.page.goto(url)
    bob = visit(url, "Bob").enter("Café  Corner!")
    assert bob.page.url == f"{url}/room/cafe-corner/"
    link = ada.page.get_by_role("link", name="cafe-corner")
    expect(link).to_contain_text("1 person")
    ada.page.get_by_label("Your name").fill("Ada")
    link.click()
    ada.sees_people("Ada", "Bob")
    bob.page.get_by_role("link", name="Leave: back to the rooms").click()
    expect(bob.page.get_by_role("link", name="cafe-corner")).to_contain_text("1 person")
    ada.sees_people("Ada")


def test_whoever_is_refused_is_told_why_and_does_not_try_again(visit: Visit, url: str) -> None:
    ada = visit(url, "Ada")
    ada.page.goto(url)
    ada.page.evaluate("sessionStorage.setItem('name', 'A' + String.fromCharCode(10) + 'da')")
    ada.page.goto(f"{url}/room/refusing/")
    expect(ada.page.get_by_role("alert")).to_contain_text("Please pick a name")
    expect(ada.status).to_have_text("Not connected")
    expect(ada.box).to_be_hidden()
    ada.page.get_by_role("link", name="Back to the rooms", exact=True).click()
    expect(ada.page.get_by_label("Room", exact=True)).to_have_value("refusing")


def test_a_room_without_letters_is_not_entered(visit: Visit, url: str) -> None:
    ada = visit(url, "Ada")
    ada.page.goto(url)
    ada.page.get_by_label("Your name").fill("Ada")
    ada.page.get_by_label("Room", exact=True).fill("!!!")
    ada.page.get_by_role("button", name="Enter").click()
    assert ada.page.get_by_label("Room", exact=True).evaluate("(room) => room.validity.customError")
    assert ada.page.url.rstrip("/") == url


def test_the_keyboard_is_enough(visit: Visit, url: str) -> None:
    ada = visit(url, "Ada").enter("keyboard")
    expect(ada.box).to_be_focused()
    ada.page.keyboard.type("first line")
    ada.page.keyboard.press("Shift+Enter")
    ada.page.keyboard.type("second line")
    ada.page.keyboard.press("Enter")
    ada.sees("first line\nsecond line")
    expect(ada.box).to_have_value("")
    expect(ada.box).to_be_focused()
    ada.page.keyboard.press("Enter")
    expect(ada.page.locator(".message")).to_have_count(1)


def test_the_page_says_which_worker_answered(visit: Visit, url: str) -> None:
    ada = visit(url, "Ada").enter("worker")
    assert is_running(ada.worker)
    expect(ada.page.locator("#worker")).to_contain_text(str(ada.worker))
    expect(ada.page.get_by_text("src/busway/demo/consumers.py")).to_be_visible()
