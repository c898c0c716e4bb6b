"""A process that saves a session on an IPC bus until it is killed: `DIRECTORY KEY`."""

import os
import sys

import django

from busway.bus.ipc import IPCChannelLayer

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "busway_django.project.settings")
django.setup()

from busway.django.layers import channel_layers  # noqa: E402  (Django wants to be set up first)
from busway.django.session_backends.bus import SessionStore  # noqa: E402


def main(directory: str, key: str) -> None:
    """Save; say so on standard output after a hundred times."""
    layer = IPCChannelLayer(name="sessions", directory=directory, size=4 * 1024 * 1024)
    channel_layers.set("default", layer)
    number = 0
    while True:
        number += 1
        session = SessionStore(key)
        session["count"] = number
        session.save()
        if number == 100:
            sys.stdout.write("saving\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
