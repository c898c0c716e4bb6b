"""What follows when a consumer raises."""

import logging
from typing import Any

import pytest

from busway import (
    CloseConnection,
    ConsumeLater,
    DenyConnection,
    Message,
    RequestAborted,
    RequestTimeout,
    ResponseLater,
)
from busway.app.endings import MAX_TRIES, TRIES_KEY, Ending, ending_of, unrouted
from busway.bus.operations import Send


def end(error: Exception, channel: str = "websocket.connect", **content: Any) -> Ending:
    message = Message({"reply_channel": "web!1", "path": "/x/", **content}, channel)
    return ending_of(error, message, "shop.buy")


def sent(ending: Ending) -> dict[str, Any]:
    (operation,) = ending.operations
    assert isinstance(operation, Send)
    assert operation.channel == "web!1"
    assert isinstance(operation.message, dict)
    return operation.message


def test_answering_later_sends_what_was_held_and_nothing_else() -> None:
    assert end(ResponseLater(), "http.request") == Ending([], keeps=True, kind="")


def test_denying_refuses_the_handshake() -> None:
    ending = end(DenyConnection())
    assert ending.keeps
    assert sent(ending) == {"accept": False}


def test_closing_sends_code_and_reason_after_what_was_held() -> None:
    ending = end(CloseConnection(4001, "bye"), "websocket.receive")
    assert ending.keeps
    assert sent(ending) == {"close": 4001, "reason": "bye"}


@pytest.mark.parametrize("error", [DenyConnection(), CloseConnection(4001)])
@pytest.mark.parametrize("reply_channel", [None, "a b", 7, ["x"]])
def test_without_a_client_that_is_a_failure(
    error: Exception, reply_channel: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ending = end(error, "jobs", reply_channel=reply_channel)
    assert ending == Ending([], keeps=False, kind="failed")
    assert "shop.buy on jobs '/x/' failed" in caplog.text


def test_consuming_later_puts_the_message_back_and_counts() -> None:
    ending = end(ConsumeLater(3.0), "jobs", n=1)
    again = {"reply_channel": "web!1", "path": "/x/", "n": 1, TRIES_KEY: 1}
    assert ending == Ending([Send("jobs", again, 3.0)], keeps=False, kind="requeued")


def test_consuming_later_ends_after_some_tries(caplog: pytest.LogCaptureFixture) -> None:
    assert end(ConsumeLater(), "jobs", **{TRIES_KEY: MAX_TRIES - 1}).kind == "requeued"
    ending = end(ConsumeLater(), "http.request", **{TRIES_KEY: MAX_TRIES})
    assert ending.kind == "failed"
    assert sent(ending)["status"] == 500
    (record,) = caplog.records
    assert record.getMessage() == (
        f"shop.buy on http.request '/x/' failed: given up after {MAX_TRIES} tries"
    )
    assert record.exc_info is None


@pytest.mark.parametrize("tries", ["many", None, 2.5, True, [1]])
def test_tries_that_are_no_number_count_as_none(tries: Any) -> None:
    ending = end(ConsumeLater(), "jobs", **{TRIES_KEY: tries})
    (again,) = ending.operations
    assert isinstance(again, Send)
    assert again.message[TRIES_KEY] == 1


def test_a_failure_answers_a_request_with_500(caplog: pytest.LogCaptureFixture) -> None:
    ending = end(ZeroDivisionError("no such number"), "http.request")
    answer = sent(ending)
    assert not ending.keeps
    assert (answer["status"], answer["more_content"]) == (500, False)
    assert [b"content-length", str(len(answer["content"])).encode()] in answer["headers"]
    (record,) = caplog.records
    assert record.getMessage() == "shop.buy on http.request '/x/' failed"
    assert record.exc_info is not None
    assert "no such number" not in str(answer)


def test_a_failure_refuses_a_socket_with_500() -> None:
    answer = sent(end(ZeroDivisionError()))
    assert answer.pop("content")
    assert answer.pop("headers")
    assert answer == {"accept": False, "status": 500}


def test_a_failure_elsewhere_answers_nothing() -> None:
    assert end(ZeroDivisionError(), "websocket.receive") == Ending([], kind="failed")
    assert end(ZeroDivisionError(), "http.request", reply_channel=None).operations == []


def test_a_body_that_stalls_is_answered_with_408() -> None:
    ending = end(RequestTimeout(60.0), "http.request")
    assert sent(ending)["status"] == 408
    assert ending.kind == "failed"


def test_a_client_that_is_gone_is_answered_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "busway")
    assert end(RequestAborted(), "http.request") == Ending([], kind="aborted")
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize(
    ("channel", "key", "value"),
    [("http.request", "status", 404), ("websocket.connect", "accept", False)],
)
def test_clients_without_a_route_are_answered(channel: str, key: str, value: object) -> None:
    (operation,) = unrouted(Message({"reply_channel": "web!1"}, channel))
    assert isinstance(operation, Send)
    assert operation.message[key] is value or operation.message[key] == value
    assert unrouted(Message({}, channel)) == []


def test_other_messages_without_a_route_are_not_answered() -> None:
    assert unrouted(Message({"reply_channel": "web!1"}, "websocket.receive")) == []
