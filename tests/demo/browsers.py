"""A real browser for the chat's tests and its pictures."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    WebSocket,
    expect,
    sync_playwright,
)

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = (1280, 800)
PHONE = (390, 844)
PATIENCE = 30_000.0
"""Milliseconds that anything may take on a busy machine."""

# The page cannot be trusted to count its own sockets, so this does, from outside.
COUNT_SOCKETS = """
window.sockets = { opened: 0, closed: 0 };
window.WebSocket = class extends WebSocket {
  constructor(...parameters) {
    super(...parameters);
    this.addEventListener("open", () => window.sockets.opened++);
    this.addEventListener("close", () => window.sockets.closed++);
  }
};
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser, and end it."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """A person with a browser of their own."""

    def __init__(
        self,
        browser: Browser,
        url: str,
        name: str,
        *,
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        scale: float = 1,
    ) -> None:
        self.url = url
        self.name = name
        self.complaints: list[str] = []
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            device_scale_factor=scale,
            has_touch=size == PHONE,
            is_mobile=size == PHONE,
            locale="en-GB",
        )
        self.context.set_default_timeout(PATIENCE)
        self.context.add_init_script(COUNT_SOCKETS)
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)
        self._sockets: list[WebSocket] = []
        self.page.on("websocket", self._note_socket)

    def _hear(self, message: ConsoleMessage) -> None:
        # A connection that is refused while the server is away is what some tests are about.
        if message.type in ("error", "warning") and "ERR_CONNECTION" not in message.text:
            self.complaints.append(message.text)

    def _note_socket(self, socket: WebSocket) -> None:
        self._sockets.append(socket)

    def socket(self) -> WebSocket:
        """Return the page's newest socket, to wait for its frames."""
        return self._sockets[-1]

    def enter(self, room: str) -> Self:
        """Go through the lobby into `room`, and wait for the connection."""
        self.page.goto(self.url)
        self.page.get_by_label("Your name").fill(self.name)
        self.page.get_by_label("Room", exact=True).fill(room)
        self.page.get_by_role("button", name="Enter").click()
        expect(self.status).to_have_text("Connected")
        return self

    def say(self, text: str) -> None:
        """Say something, without waiting for it to appear."""
        self.box.fill(text)
        self.box.press("Enter")

    def sees(self, text: str, *, times: int = 1) -> None:
        """Wait until `text` was said, here too; a message on its way does not count."""
        said = self.page.locator(".message:not(.waiting) .text", has_text=_exactly(text))
        expect(said).to_have_count(times)

    def sees_people(self, *names: str) -> None:
        """Wait until exactly these people are there."""
        expect(self.page.locator("#people bdi")).to_have_text(list(names))

    @property
    def box(self) -> Locator:
        """Where messages are typed."""
        return self.page.get_by_role("textbox", name="Message")

    @property
    def status(self) -> Locator:
        """What the page says about its connection."""
        return self.page.get_by_role("status")

    @property
    def log(self) -> Locator:
        """What was said."""
        return self.page.get_by_role("log", name="Messages")

    @property
    def worker(self) -> int:
        """The process id of the worker that answered last."""
        return int(self.page.locator("#worker").get_attribute("data-pid") or 0)

    @property
    def sockets(self) -> dict[str, int]:
        """How many sockets this page has "opened" and seen "closed"."""
        counts: dict[str, int] = self.page.evaluate("window.sockets")
        return counts

    def leave(self) -> None:
        """Close the browser."""
        self.context.close()


def _exactly(text: str) -> re.Pattern[str]:
    return re.compile(f"^{re.escape(text)}$")
