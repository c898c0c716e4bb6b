"""The plugin of Busway for pytest: the fixtures in `busway.django.test.fixtures`, with Django.

pytest loads it wherever Busway is installed, so it asks for nothing before it is needed.
"""

import os
from importlib.util import find_spec

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the fixtures known in a Django project with pytest-django."""
    has_django = find_spec("django") is not None and config.pluginmanager.hasplugin("django")
    if has_django and os.environ.get("DJANGO_SETTINGS_MODULE"):
        config.pluginmanager.import_plugin("busway.django.test.fixtures")
