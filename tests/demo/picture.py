"""Take the README's picture of the demo, from a real run.

From the root of the repository: PYTHONPATH=tests python -m demo.picture docs/images/demo.png
"""

import os
import signal
import sys
from base64 import b64encode
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser

from demo.browsers import PHONE, Visitor, chromium
from services import Service

ROOM = "coffee-corner"
DESKTOP = (1080, 720)
KILLED = "And I just killed a worker."
SCRIPT = [
    ("Grace", "Morning! The release goes out at ten."),
    ("Grace", "Nobody has to log in again, the sockets stay where they are."),
    ("Ada", "Nice. I am editing consumers.py right now. Is anybody disconnected?"),
    ("Linus", "Nope."),
    ("Edsger", "On the train, lost the signal twice. It came back by itself."),
    ("Grace", KILLED),
    ("Ada", "Did not notice a thing."),
]
FRAME = """<!doctype html><style>
body { margin: 0; width: 1380px; height: 840px; position: relative; background: #e7e4da; }
img { position: absolute; display: block; border-radius: 14px; box-shadow: 0 18px 50px #0005; }
.desktop { left: 40px; top: 60px; width: 1000px; }
.phone { right: 40px; bottom: 40px; width: 320px; border: 7px solid #16191d; border-radius: 34px; }
</style>
<img class="desktop" src="data:image/png;base64,%s">
<img class="phone" src="data:image/png;base64,%s">
"""


def main(target: Path) -> None:
    """Start the demo, let four people chat, and write what two of them see to `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="busway-picture-") as bus, chromium() as browser:
        command = ["busway", "demo", "--port", "0", "--layer", f"ipc://chat?directory={bus}"]
        with Service(command) as service:
            url = service.expect(r"http://[\w.:]+").group()
            target.write_bytes(_framed(browser, *_pictures(browser, url)))
            service.signal(signal.SIGTERM)
            service.ended()


def _pictures(browser: Browser, url: str) -> tuple[bytes, bytes]:
    people = {name: Visitor(browser, url, name).enter(ROOM) for name in ("Grace", "Linus")}
    people["Ada"] = Visitor(browser, url, "Ada", size=DESKTOP, scale=2).enter(ROOM)
    people["Edsger"] = Visitor(browser, url, "Edsger", size=PHONE, scale=2, dark=True).enter(ROOM)
    for name, text in SCRIPT:
        if text == KILLED:
            os.kill(people[name].worker, signal.SIGKILL)
        people[name].say(text)
        for each in people.values():
            each.sees(text)
    for each in people.values():
        each.sees_people("Ada", "Edsger", "Grace", "Linus")
    people["Ada"].box.blur()
    people["Edsger"].box.blur()
    return tuple(  # type: ignore[return-value]
        people[name].page.screenshot(animations="disabled") for name in ("Ada", "Edsger")
    )


def _framed(browser: Browser, desktop: bytes, phone: bytes) -> bytes:
    page = browser.new_page(viewport={"width": 1380, "height": 840}, device_scale_factor=1.5)
    page.set_content(FRAME % (b64encode(desktop).decode(), b64encode(phone).decode()))
    return page.screenshot()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
