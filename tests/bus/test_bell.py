"""How a receiver sleeps."""

import os
import socket
from collections.abc import Iterator

import pytest

from busway.bus.bell import Bell

PATIENCE = 10.0


@pytest.fixture(name="pair")
def fixture_pair() -> Iterator[tuple[Bell, socket.socket]]:
    """A bell, and a socket that rings it."""
    listening, ringing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell = Bell(listening)
    yield bell, ringing
    bell.close()
    ringing.close()


@pytest.fixture(name="offers")
def fixture_offers(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows whenever the processor is offered to others, by who stays awake."""
    offers: list[None] = []
    monkeypatch.setattr(os, "sched_yield", lambda: offers.append(None))
    return offers


def rung_at_once(bell: Bell, ringing: socket.socket) -> None:
    """Let `bell` find that it was rung soon, and expect that it will be again."""
    ringing.send(b"!")
    assert bell.wait(PATIENCE)


def test_a_ring_ends_the_wait_and_no_ring_does_not(pair: tuple[Bell, socket.socket]) -> None:
    bell, ringing = pair
    ringing.send(b"!")
    assert bell.wait(PATIENCE)
    assert not bell.wait(0)
    assert not bell.wait(0.01)


def test_who_was_woken_soon_stays_awake(
    pair: tuple[Bell, socket.socket], offers: list[None]
) -> None:
    bell, ringing = pair
    rung_at_once(bell, ringing)
    assert not bell.wait(0.01)
    assert offers


def test_who_had_to_wait_for_long_sleeps_at_once(
    pair: tuple[Bell, socket.socket], offers: list[None]
) -> None:
    bell, _ = pair
    assert not bell.wait(0.01)
    assert not bell.wait(0.01)
    assert not offers


def test_who_is_busy_sleeps_at_once(pair: tuple[Bell, socket.socket], offers: list[None]) -> None:
    bell, ringing = pair
    rung_at_once(bell, ringing)
    assert not bell.wait(0.01, busy=True)
    assert not offers


async def test_the_same_on_an_event_loop(
    pair: tuple[Bell, socket.socket], offers: list[None]
) -> None:
    bell, ringing = pair
    ringing.send(b"!")
    assert await bell.async_wait(PATIENCE)
    assert not await bell.async_wait(0.01, busy=True)
    assert not offers
    ringing.send(b"!")
    assert await bell.async_wait(PATIENCE)
    assert not await bell.async_wait(0.01)
    assert offers
