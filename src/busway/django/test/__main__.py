"""A process of a live server: a command of `manage.py`, with what a test has changed."""

import json
import sys
from typing import Any

from django.conf import settings
from django.core.management import execute_from_command_line

from busway.django.layers import channel_layers


def main(setup: dict[str, Any], words: list[str]) -> None:
    """Run a command with settings that a test has changed.

    `setup` has "databases" (alias → name), "layers" (alias → what CHANNEL_LAYERS says, without
    the ROUTING), "host" and "debug".
    """
    for alias, name in setup["databases"].items():
        settings.DATABASES[alias]["NAME"] = name
    settings.CHANNEL_LAYERS = {
        alias: {**live, "ROUTING": channel_layers.configs[alias].get("ROUTING", [])}
        for alias, live in setup["layers"].items()
    }
    settings.DEBUG = setup["debug"]
    settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, setup["host"]]
    execute_from_command_line(["manage.py", *words])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
