"""The directory of a bus is private, and has room or says so."""

import os
import tempfile
from pathlib import Path

import pytest

from busway.bus.errors import LayerUnavailable
from busway.bus.ipc import IPCChannelLayer, directory
from busway.bus.ipc.directory import find_directory, make_private

MIB = 1 << 20


def test_a_new_directory_is_for_its_user_alone(tmp_path: Path) -> None:
    assert make_private(tmp_path / "bus").stat().st_mode & 0o777 == 0o700


def test_files_of_a_bus_are_for_their_user_alone(tmp_path: Path) -> None:
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    files = [path for path in (tmp_path / "bus").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"data.mdb", "lock.mdb"}
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
    layer.close()


def test_a_directory_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bus").mkdir(mode=0o755)
    with pytest.raises(LayerUnavailable, match=r"mode 755, expected 700.*remove it"):
        IPCChannelLayer(directory=tmp_path / "bus", size=MIB)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bus").mkdir(mode=0o700)
    os.chown(tmp_path / "bus", 12345, -1)
    with pytest.raises(LayerUnavailable, match=r"owned by user 12345.*remove it"):
        IPCChannelLayer(directory=tmp_path / "bus", size=MIB)


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "bus").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LayerUnavailable, match="not a directory"):
        IPCChannelLayer(directory=tmp_path / "bus", size=MIB)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bus").write_text("")
    with pytest.raises(LayerUnavailable, match="cannot be made"):
        IPCChannelLayer(directory=tmp_path / "bus", size=MIB)


def test_the_parent_of_a_user_s_buses_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "SHARED_MEMORY", tmp_path)
    (tmp_path / f"busway-{os.geteuid()}").mkdir(mode=0o777)
    (tmp_path / f"busway-{os.geteuid()}").chmod(0o777)
    with pytest.raises(LayerUnavailable, match="open to other users"):
        find_directory("name", MIB)


def test_shared_memory_is_preferred_and_the_temporary_directory_is_the_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, temporary = tmp_path / "shm", tmp_path / "tmp"
    shared.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(directory, "SHARED_MEMORY", shared)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(temporary))
    assert find_directory("first", MIB).is_relative_to(shared)
    room = {shared: 0, temporary: 10 * MIB}
    monkeypatch.setattr(directory, "free_space", room.get)
    assert find_directory("second", MIB).is_relative_to(temporary)
    room[temporary] = 0
    with pytest.raises(LayerUnavailable, match=r"no room for a bus of 1 MiB.*smaller 'size'"):
        find_directory("third", MIB)


def test_a_bus_is_found_where_it_is_even_when_there_is_room_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, temporary = tmp_path / "shm", tmp_path / "tmp"
    shared.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(directory, "SHARED_MEMORY", shared)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(temporary))
    with monkeypatch.context() as patch:
        patch.setattr(directory, "free_space", {shared: 0, temporary: 10 * MIB}.get)
        (find_directory("bus", MIB) / "data.mdb").touch()
    assert find_directory("bus", MIB).is_relative_to(temporary)
