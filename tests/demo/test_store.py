"""The chat's state: who is there, what was said, and what is forgotten."""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from busway.bus.errors import ConfigurationError
from busway.demo.store import (
    HISTORY,
    MAX_NAME,
    MAX_ROOMS,
    MAX_SOCKETS,
    SILENCE,
    STATE_VARIABLE,
    Refused,
    Store,
    temporary_state,
)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_store(tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Store]]:
    """Make stores that share one directory, as workers do."""
    stores: list[Store] = []

    def make() -> Store:
        stores.append(Store(tmp_path / "state", clock=clock))
        return stores[-1]

    yield make
    for each in stores:
        each.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


def test_a_member_is_listed_in_its_room_only(store: Store) -> None:
    assert store.join("tea", "a", "Ada")
    assert store.people("tea").names == ["Ada"]
    assert store.people("coffee").names == []


def test_two_pages_of_one_name_are_one_person(store: Store) -> None:
    assert store.join("tea", "a", "Ada")
    assert not store.join("tea", "b", "Ada")
    assert store.people("tea").names == ["Ada"]
    assert store.leave("a") is None
    assert store.people("tea").names == ["Ada"]
    assert store.leave("b") == "Ada"
    assert store.people("tea").names == []


def test_leaving_twice_or_without_joining_is_harmless(store: Store) -> None:
    store.join("tea", "a", "Ada")
    assert store.leave("a") == "Ada"
    assert store.leave("a") is None
    assert store.leave("nobody") is None


@pytest.mark.parametrize(
    "name", ["", " ", " Ada", "Ada ", "A\nda", "A\u202eda", "a" * (MAX_NAME + 1)]
)
def test_names_that_cannot_be_read_are_refused(store: Store, name: str) -> None:
    with pytest.raises(Refused, match="name"):
        store.join("tea", "a", name)
    assert store.people("tea").names == []


@pytest.mark.parametrize("name", ["A", "Ada Lovelace", "<b>", "Zoë 🚌", "a" * MAX_NAME])
def test_names_of_any_script_are_taken(store: Store, name: str) -> None:
    assert store.join("tea", "a", name)
    assert store.people("tea").names == [name]


def test_what_was_said_is_kept_in_order_with_growing_times(store: Store, clock: Clock) -> None:
    store.join("tea", "a", "Ada")
    said = [store.say("a", text, text) for text in ("one", "two")]
    clock.now -= 60  # clocks are set back, too
    said.append(store.say("a", "three", "three"))
    history = store.history("tea")
    assert history == said
    assert [each.text for each in history] == ["one", "two", "three"]
    times = [each.at for each in history]
    assert times == sorted(set(times))


def test_a_message_that_is_sent_again_is_kept_once(store: Store) -> None:
    store.join("tea", "a", "Ada")
    first = store.say("a", "hello", "ref-1")
    assert store.say("a", "hello", "ref-1") == first
    assert store.history("tea") == [first]


def test_the_same_ref_from_another_person_is_another_message(store: Store) -> None:
    store.join("tea", "a", "Ada")
    store.join("tea", "b", "Bob")
    store.say("a", "hello", "1")
    store.say("b", "hi", "1")
    assert [(each.name, each.text) for each in store.history("tea")] == [
        ("Ada", "hello"),
        ("Bob", "hi"),
    ]


def test_nobody_speaks_without_having_joined(store: Store) -> None:
    assert store.say("nobody", "hello", "1") is None
    assert store.rooms() == []


def test_only_the_last_messages_are_kept(store: Store) -> None:
    store.join("tea", "a", "Ada")
    store.join("coffee", "b", "Bob")
    store.say("b", "stays", "1")
    for number in range(HISTORY + 5):
        store.say("a", str(number), str(number))
    texts = [each.text for each in store.history("tea")]
    assert texts == [str(number) for number in range(5, HISTORY + 5)]
    assert [each.text for each in store.history("coffee")] == ["stays"]


def test_pages_without_a_sign_of_life_are_cleaned_up(store: Store, clock: Clock) -> None:
    store.join("tea", "silent", "Ada")
    store.join("tea", "lively", "Bob")
    clock.now += SILENCE * 0.7
    assert store.touch("lively")
    clock.now += SILENCE * 0.7
    assert store.clean_up() == {"tea"}
    assert store.people("tea").names == ["Bob"]
    assert not store.touch("silent")
    assert store.clean_up() == set()


def test_a_full_room_refuses(store: Store) -> None:
    for number in range(MAX_SOCKETS):
        store.join("tea", str(number), "Ada")
    with pytest.raises(Refused, match="full"):
        store.join("tea", "more", "Bob")
    store.leave("0")
    assert store.join("tea", "more", "Bob")


def test_the_empty_room_that_was_quiet_for_longest_makes_way(store: Store, clock: Clock) -> None:
    for number in range(MAX_ROOMS):
        clock.now += 1
        store.join(f"room-{number}", "a", "Ada")
        store.say("a", "hello", str(number))
        store.leave("a")
    store.join("room-0", "b", "Bob")
    store.join("one-more", "c", "Cleo")
    known = {each.room for each in store.rooms()}
    assert len(known) == MAX_ROOMS
    assert {"room-0", "one-more"} <= known
    assert "room-1" not in known


def test_no_room_is_added_when_all_have_people(store: Store) -> None:
    for number in range(MAX_ROOMS):
        store.join(f"room-{number}", str(number), "Ada")
    with pytest.raises(Refused, match="every room"):
        store.join("one-more", "b", "Bob")
    assert store.join("room-3", "b", "Bob")


def test_the_lobby_lists_the_liveliest_room_first(store: Store) -> None:
    store.join("b", "1", "Ada")
    store.join("a", "2", "Bob")
    store.join("c", "3", "Cleo")
    store.join("c", "4", "dora")
    assert [(each.room, each.names) for each in store.rooms()] == [
        ("c", ["Cleo", "dora"]),
        ("a", ["Bob"]),
        ("b", ["Ada"]),
    ]


def test_workers_share_what_they_know(open_store: Callable[[], Store]) -> None:
    one, two = open_store(), open_store()
    one.join("tea", "a", "Ada")
    assert two.people("tea").names == ["Ada"]
    said = two.say("a", "hello", "1")
    assert one.history("tea") == [said]


def test_workers_write_at_the_same_time(open_store: Callable[[], Store]) -> None:
    stores = [open_store() for _ in range(4)]
    stores[0].join("tea", "a", "Ada")

    def talk(number: int) -> None:
        for turn in range(10):
            stores[number].say("a", "hello", f"{number}-{turn}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(talk, range(4)))
    history = stores[0].history("tea")
    assert len({each.ref for each in history}) == 40
    assert len({each.at for each in history}) == 40


def test_threads_share_one_store(store: Store) -> None:
    store.join("tea", "a", "Ada")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: store.say("a", "hello", str(number)), range(40)))
    assert len(store.history("tea")) == 40


def test_it_opens_again_after_it_was_closed(store: Store) -> None:
    store.join("tea", "a", "Ada")
    store.close()
    store.close()
    assert store.people("tea").names == ["Ada"]


def test_the_directory_is_private(store: Store, tmp_path: Path) -> None:
    store.rooms()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigurationError, match=f"chmod 700.*{STATE_VARIABLE}"):
        Store(tmp_path).rooms()


def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match="directory of yours"):
        Store(tmp_path / "link").rooms()


def test_making_a_store_touches_no_file(tmp_path: Path) -> None:
    Store(tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_the_environment_names_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    store = Store()
    store.rooms()
    store.close()
    assert (tmp_path / "state" / "chat.sqlite3").exists()


def test_without_a_name_the_directory_is_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = Store()
    store.rooms()
    store.close()
    assert (tmp_path / f"busway-demo-{os.getuid()}" / "chat.sqlite3").exists()


def test_temporary_state_is_given_to_children_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    with temporary_state() as directory:
        assert os.environ[STATE_VARIABLE] == str(directory)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not directory.exists()
    assert STATE_VARIABLE not in os.environ


def test_a_state_that_is_configured_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    with temporary_state() as directory:
        assert directory == tmp_path
    assert tmp_path.exists()
    assert os.environ[STATE_VARIABLE] == str(tmp_path)
