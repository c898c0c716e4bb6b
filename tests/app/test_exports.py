"""What `import busway` gives, and what it does not load."""

import subprocess
import sys

import pytest

import busway
import busway.app


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_every_public_name_can_be_imported() -> None:
    assert sorted(busway.__all__) == sorted(busway.app.__all__)
    for name in busway.__all__:
        assert getattr(busway, name) is getattr(busway.app, name)
        assert name in dir(busway)


def test_importing_busway_loads_none_of_the_rooms() -> None:
    code = "import busway, sys; print([name for name in sys.modules if name.startswith('busway.')])"
    assert run(code) == "[]\n"


def test_the_first_use_of_a_name_loads_it() -> None:
    assert run("from busway import Channel; print(Channel('x'))") == "x\n"


def test_the_version_is_known() -> None:
    assert busway.__version__.count(".") == 2


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Chanel'"):
        busway.Chanel  # noqa: B018
