"""Exceptions that consumers raise: they carry data, and check it."""

import pytest

from busway import CloseConnection, ConsumeLater, RequestAborted, RequestTimeout
from busway.app.exceptions import WebsocketCloseException
from busway.bus.errors import BuswayError, ConfigurationError


@pytest.mark.parametrize("code", [1000, 3000, 4999])
def test_codes_for_applications_are_taken(code: int) -> None:
    error = CloseConnection(code, "bye")
    assert (error.code, error.reason) == (code, "bye")


@pytest.mark.parametrize("code", [0, 999, 1001, 1006, 2999, 5000, "1000", 4000.0, True])
def test_other_codes_are_refused(code: int) -> None:
    with pytest.raises(ConfigurationError, match="expected 1000, or 3000 to 4999"):
        CloseConnection(code)


def test_a_reason_fits_in_a_close_frame() -> None:
    assert CloseConnection(4000, "é" * 61).reason == "é" * 61
    with pytest.raises(ConfigurationError, match="has 124 bytes"):
        CloseConnection(4000, "é" * 62)


def test_the_first_generations_name_still_works() -> None:
    with pytest.raises(CloseConnection):
        raise WebsocketCloseException(4001)


def test_they_say_what_they_are() -> None:
    assert str(CloseConnection(4000, "bye")) == "to be closed with code 4000 (bye)"
    assert str(ConsumeLater(2.0)) == "to be consumed again in 2.0 s"
    assert "60.0 s" in str(RequestTimeout(60.0))
    assert "gone" in str(RequestAborted())
    assert issubclass(RequestAborted, BuswayError)
