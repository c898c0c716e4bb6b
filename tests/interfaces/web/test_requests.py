"""Heads of requests: hygiene, origins, proxies."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busway.bus.errors import ConfigurationError
from busway.interfaces.web.handshake import Handshake, check_handshake, parse_head
from busway.interfaces.web.options import WebOptions
from busway.interfaces.web.requests import BadRequest, Head, admit, origin_allowed
from interfaces.web.harness import handshake


def head(*headers: tuple[bytes, bytes]) -> Head:
    every = [(b"host", b"x"), *headers]
    return Head("http", "1.1", "/", b"", every, ("10.0.0.1", 1), ("10.0.0.2", 80))


def check(data: bytes) -> Handshake:
    method, _, headers = parse_head(data)
    return check_handshake(method, headers)


@given(st.binary(min_size=1, max_size=20), st.binary(max_size=20))
def test_no_control_byte_and_no_underscored_name_gets_in(name: bytes, value: bytes) -> None:
    request = head((name, value))
    try:
        admit(request, WebOptions())
    except BadRequest:
        return
    for kept_name, kept_value in request.headers:
        assert b"_" not in kept_name
        assert kept_name.isascii()
        assert not set(kept_name) & set(b" \t\r\n:")
        assert not set(kept_value) & ({*range(32), 127} - {9})


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_origin_raises(origin: str, host: str) -> None:
    assert origin_allowed(origin, host, ()) in (True, False)


@pytest.mark.parametrize(
    ("forwarded", "hops", "client"),
    [
        (b"203.0.113.9", 1, ("203.0.113.9", 0)),
        (b"6.6.6.6, 203.0.113.9", 1, ("203.0.113.9", 0)),
        (b"6.6.6.6, 203.0.113.9, 10.0.0.3", 2, ("203.0.113.9", 0)),
        (b"203.0.113.9", 3, ("203.0.113.9", 0)),
        (b"203.0.113.9:4711", 1, ("203.0.113.9", 4711)),
        (b"2001:db8::1", 1, ("2001:db8::1", 0)),
        (b"[2001:db8::1]:4711", 1, ("2001:db8::1", 4711)),
        (b"1.2.3.4:\xb2", 1, ("1.2.3.4", 0)),
        (b"", 1, ("10.0.0.1", 1)),
    ],
)
def test_the_client_is_whom_the_outermost_proxy_saw(
    forwarded: bytes, hops: int, client: tuple[str, int]
) -> None:
    request = head((b"x-forwarded-for", forwarded))
    admit(request, WebOptions(proxy_headers=True, proxy_hops=hops))
    assert request.client == client


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_nothing_that_a_proxy_forwards_raises(forwarded: bytes, port: bytes) -> None:
    request = head((b"x-forwarded-for", forwarded), (b"x-forwarded-port", port))
    with suppress(BadRequest):
        admit(request, WebOptions(proxy_headers=True))


@given(st.binary(max_size=200))
def test_no_head_that_an_http_parser_passes_breaks_the_handshake(lines: bytes) -> None:
    data = b"GET / HTTP/1.1\r\n" + lines + b"\r\n\r\n"
    with suppress(BadRequest):
        assert len(check(data).accept) == 28


def test_a_header_of_the_handshake_stands_once() -> None:
    twice = handshake().replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Version: 13\r\n\r\n")
    with pytest.raises(BadRequest, match="stands twice"):
        check(twice)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"http_timeout": -1}, "http_timeout is -1, expected at least 0"),
        ({"keep_alive": float("inf")}, "keep_alive is inf, expected a finite number"),
        ({"unix_socket": "x", "fd": 3}, "exclude each other"),
        ({"tls_key": "key.pem"}, "tls_key needs tls_certificate"),
        ({"root_path": "app/"}, "expected '/path' without a slash at the end"),
        ({"allowed_origins": ["example.com"]}, "expected '*' or 'scheme://host"),
    ],
)
def test_a_wrong_option_is_one_clear_error(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        WebOptions(**options)  # type: ignore[arg-type]
    assert text in str(error.value)
