"""Objects by their dotted paths."""

import os.path
import sys
from pathlib import Path

import pytest

from busway.app.loading import load
from busway.bus.errors import ConfigurationError


@pytest.mark.parametrize("path", ["os.path.join", "os.path:join", "os:path.join"])
def test_paths_with_dots_and_with_a_colon(path: str) -> None:
    assert load(path) is os.path.join


@pytest.mark.parametrize("path", ["", "join", ":join", "os:", "os."])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"expected 'package\.module:name'"):
        load(path)


def test_a_missing_module_is_named() -> None:
    with pytest.raises(ConfigurationError, match="there is no module 'nowhere_to_be_found'"):
        load("nowhere_to_be_found.routing:routing")


def test_a_missing_name_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'os\.path' has no 'joint'"):
        load("os.path:joint")


def test_an_error_inside_the_module_is_raised_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_by_import.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "broken_by_name.py").write_text("undefined\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        load("broken_by_import:routing")
    with pytest.raises(NameError, match="undefined"):
        load("broken_by_name:routing")
    assert "broken_by_name" not in sys.modules
