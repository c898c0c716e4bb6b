"""The tables of states: whole, and true to what they promise, whatever happens in what order."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busway.interfaces.web.http import HTTPConnection
from busway.interfaces.web.states import (
    HTTP,
    REQUEST,
    WEBSOCKET,
    WS,
    HTTPAction,
    HTTPEvent,
    WSAction,
    WSEvent,
)
from busway.interfaces.web.websocket import WebSocketConnection


def run_websocket(events: list[WSEvent]) -> list[tuple[WS, WSAction, WS]]:
    """Return the actions of `events`, each with the states before and after."""
    state = WS.CONNECTING
    done = []
    for event in events:
        after, actions = WEBSOCKET[state, event]
        done += [(state, action, after) for action in actions]
        state = after
    return done


def run_request(events: list[HTTPEvent]) -> list[tuple[HTTP, HTTPAction, HTTP]]:
    """Return the actions of `events`, each with the states before and after."""
    state = HTTP.WAITING
    done = []
    for event in events:
        after, actions = REQUEST[state, event]
        done += [(state, action, after) for action in actions]
        state = after
    return done


def test_every_state_knows_every_event() -> None:
    assert set(WEBSOCKET) == set(product(WS, WSEvent))
    assert set(REQUEST) == set(product(HTTP, HTTPEvent))


@pytest.mark.parametrize("action", [*WSAction, *HTTPAction])
def test_every_action_is_a_method(action: WSAction | HTTPAction) -> None:
    owner = WebSocketConnection if isinstance(action, WSAction) else HTTPConnection
    assert callable(getattr(owner, action))


def test_a_state_never_goes_back() -> None:
    assert all(after >= before for (before, _), (after, _) in WEBSOCKET.items())
    assert all(after >= before for (before, _), (after, _) in REQUEST.items())


@given(st.lists(st.sampled_from(WSEvent), max_size=20))
def test_a_websocket_goes_off_the_books_once_and_then_is_silent(events: list[WSEvent]) -> None:
    done = run_websocket(events)
    goodbyes = [d for d in done if d[1] in (WSAction.DISCONNECT, WSAction.FORGET)]
    left = any(before < WS.CLOSING <= after for before, _, after in done)
    assert len(goodbyes) == left
    for before, action, _ in done:
        if action in (WSAction.FORWARD, WSAction.ACCEPT, WSAction.HOLD):
            assert before < WS.CLOSING


@given(st.lists(st.sampled_from(WSEvent), max_size=20))
def test_a_websocket_is_accepted_at_most_once_and_before_anything_is_written(
    events: list[WSEvent],
) -> None:
    actions = [action for _, action, _ in run_websocket(events)]
    assert actions.count(WSAction.ACCEPT) <= 1
    for frame in (WSAction.WRITE, WSAction.CLOSE, WSAction.ECHO):
        if frame in actions:
            assert WSAction.ACCEPT in actions[: actions.index(frame)]
    assert not (WSAction.ACCEPT in actions and WSAction.DENY in actions)


@given(st.lists(st.sampled_from(WSEvent), max_size=20))
def test_at_most_one_close_frame_is_sent_and_nothing_after_it(events: list[WSEvent]) -> None:
    actions = [action for _, action, _ in run_websocket(events)]
    closes = [n for n, a in enumerate(actions) if a in (WSAction.CLOSE, WSAction.ECHO)]
    assert len(closes) <= 1
    if closes:
        assert WSAction.WRITE not in actions[closes[0] :]


@given(st.lists(st.sampled_from(HTTPEvent), max_size=20))
def test_a_request_ends_once_in_one_way(events: list[HTTPEvent]) -> None:
    done = run_request(events)
    actions = [action for _, action, _ in done]
    ends = [a for a in actions if a in (HTTPAction.FINISH, HTTPAction.DISCONNECT)]
    assert len(ends) == any(after is HTTP.DONE and before is not after for before, _, after in done)
    assert actions.count(HTTPAction.ANSWER) + actions.count(HTTPAction.ABORT) <= 1
    if HTTPAction.ANSWER in actions:
        assert HTTPAction.WRITE not in actions
