"""Settings for processes of a service: a bus and a database in BUSWAY_TEST_DIRECTORY."""

import os
from pathlib import Path

from busway_django.project.settings import *  # noqa: F403

_HERE = Path(os.environ["BUSWAY_TEST_DIRECTORY"])

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": _HERE / "db.sqlite3"}}
CHANNEL_LAYERS = {
    "default": {
        "URL": f"ipc://streams?directory={_HERE / 'bus'}",
        "ROUTING": "busway_django.project.streams_routing.channel_routing",
    }
}
CHANNELS_WS_PROTOCOLS = ["streams"]
