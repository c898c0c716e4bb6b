"""Django projects in directories of their own, and their commands as real processes."""

import os
import re
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Self

import httpx
from websockets.sync.client import ClientConnection, connect

from services import Service

MANAGE = """
import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site.settings")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""

SETTINGS = """
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "of a test"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
INSTALLED_APPS = ["busway.django", "django.contrib.staticfiles", "mysite"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "mysite.urls"
STATIC_URL = "/static/"
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
CHANNEL_LAYERS = {
    "default": {
        "CONFIG": {"directory": BUS, "size": 4194304},
        "ROUTING": "mysite.routing.channel_routing",
    },
}
"""

URLS = """
import os

from django.http import HttpResponse, JsonResponse
from django.urls import path

def hello(request):
    return HttpResponse("ANSWER")

def boom(request):
    raise RuntimeError("the view is broken")

def who(request):
    return JsonResponse({"pid": os.getpid(), "module": type(request).__name__})

urlpatterns = [path("", hello), path("boom/", boom), path("who/", who)]
"""

CONSUMERS = """
import os

def connect(message):
    message.reply_channel.send({"accept": True})

def receive(message):
    message.reply_channel.send({"text": f"ANSWER {message['text']}"})
"""

ROUTING = """
from busway.django import route
from mysite.consumers import connect, receive

channel_routing = [route("websocket.connect", connect), route("websocket.receive", receive)]
"""


class Site:
    """A Django project with a view, a consumer and a static file, and what runs of it."""

    def __init__(self, directory: Path) -> None:
        """Write the project into `directory`."""
        self.directory = directory
        self._stack = ExitStack()
        # A path below pytest's directories may be too long for a socket's name.
        bus = mkdtemp(prefix="busway-site-")
        self._stack.callback(shutil.rmtree, bus, ignore_errors=True)
        package = directory / "mysite"
        (package / "static").mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "static" / "style.css").write_text("body { color: teal }")
        (directory / "manage.py").write_text(MANAGE.replace("site.settings", "mysite.settings"))
        (package / "settings.py").write_text(f"BUS = {bus!r}\n{SETTINGS}")
        (package / "routing.py").write_text(ROUTING)
        self.write("first")
        self.service: Service | None = None

    def write(self, answer: str) -> None:
        """Save the view and the consumer; they answer with `answer` from then on."""
        package = self.directory / "mysite"
        (package / "urls.py").write_text(URLS.replace("ANSWER", answer))
        (package / "consumers.py").write_text(CONSUMERS.replace("ANSWER", answer))

    def set(self, **values: Any) -> None:
        """Change settings."""
        with (self.directory / "mysite" / "settings.py").open("a") as file:
            file.writelines(f"{name} = {value!r}\n" for name, value in values.items())

    def start(self, *words: str) -> Service:
        """Run `manage.py` with `words`; what it leaves is killed after the test."""
        return self._stack.enter_context(
            Service(
                [sys.executable, "manage.py", *words],
                cwd=self.directory,
                environment={
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "DJANGO_SETTINGS_MODULE": "mysite.settings",
                },
            )
        )

    def serve(self, *words: str) -> Service:
        """Run `manage.py runserver` on a free port, and wait until it is ready."""
        self.service = self.start("runserver", "127.0.0.1:0", *words)
        return self.service

    @property
    def address(self) -> str:
        """Host and port, once the server is ready."""
        assert self.service is not None
        found = re.search(_READY, self.service.output) or self.service.expect(_READY)
        return found[1]

    def get(self, path: str = "/", address: str | None = None) -> httpx.Response:
        """Return what is answered to a request."""
        return httpx.get(f"http://{address or self.address}{path}", timeout=30)

    def open(self, address: str | None = None) -> ClientConnection:
        """Return a new WebSocket; it is closed after the test."""
        url = f"ws://{address or self.address}/"
        return self._stack.enter_context(connect(url, open_timeout=30))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


_READY = r"https?://(\S+:\d+)/? (?:serves HTTP|is ready)"
