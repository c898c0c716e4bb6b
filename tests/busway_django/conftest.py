"""Fixtures for the tests of `busway.django`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.django.test.databases import shared_databases
from busway_django.harness import Browser
from busway_django.sites import Site


@pytest.fixture
def layer() -> Iterator[ChannelLayer]:
    """Return a layer of this test's own."""
    layer = MemoryChannelLayer()
    yield layer
    layer.close()


@pytest.fixture
def browser(layer: ChannelLayer) -> Browser:
    """Return somebody who sends requests and reads the answers."""
    return Browser(layer)


@pytest.fixture
def file_database(transactional_db: None) -> Iterator[None]:
    """Let the test's database be one that threads and processes share and really close."""
    del transactional_db
    with shared_databases(["default"]):
        yield


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Return a project in a directory of its own; what runs of it is killed after the test."""
    with Site(tmp_path) as made:
        yield made
