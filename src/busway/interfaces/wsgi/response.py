"""A response as PEP 3333 wants it, made of a worker's replies."""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from wsgiref.types import StartResponse
from wsgiref.util import is_hop_by_hop

from busway.bus.errors import BuswayError
from busway.interfaces.web.replies import Headers, HTTPReply
from busway.interfaces.wsgi.conversation import Conversation, Failure, is_bodiless

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class ResponseBroken(BuswayError):
    """The rest of a response cannot be had: the WSGI server is to cut the connection."""


def answer(reply: HTTPReply, start_response: StartResponse, *, method: str) -> list[bytes]:
    """Give the server the head of a response that is whole; returns its body."""
    status = reply.status or 500
    headers = _pairs(reply.headers, status)
    if not is_bodiless(status) and not any(name == "content-length" for name, _ in headers):
        headers.append(("content-length", str(len(reply.content))))
    start_response(_status_line(status), headers)
    return [] if is_bodiless(status, method) else [reply.content]


class Response:
    """The body of a response that is not whole yet, as the worker sends it."""

    def __init__(
        self,
        conversation: Conversation,
        first: HTTPReply,
        *,
        method: str,
        count: Callable[[str, int], None],
    ) -> None:
        """Go on with the response that `first` begins; `count` is called with what is dropped."""
        self._conversation = conversation
        self._status = first.status or 500
        self._headers = first.headers
        self._bodiless = is_bodiless(self._status, method)
        self._part: HTTPReply | None = first
        self._count = count

    def start(self, start_response: StartResponse) -> "Response":
        """Give the server the head of the response."""
        start_response(_status_line(self._status), _pairs(self._headers, self._status))
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return the next part of the body; it blocks until there is one.

        Raises `ResponseBroken`: the server then has to end the connection, so that the client
        sees that the response is not whole.
        """
        part, self._part = self._part, None
        if part is None:
            if self._conversation.complete:
                raise StopIteration
            try:
                part = self._conversation.next_part()
            except Failure as failure:
                self._count(failure.reason, 1)
                self.close()
                raise ResponseBroken(str(failure)) from failure
        return b"" if self._bodiless else part.content

    def close(self) -> None:
        """End; the server calls it when the response is written, and when the client has gone."""
        if dropped := self._conversation.end():
            self._count("late reply", dropped)


def _status_line(status: int) -> str:
    return f"{status} {_PHRASES.get(status, 'Status')}"


def _pairs(headers: Headers, status: int) -> list[tuple[str, str]]:
    """Return headers as text, without those that are the server's own business."""
    found = []
    for raw, value in headers:
        name = raw.decode("latin-1")
        if not is_hop_by_hop(name) and not (status == 204 and name.lower() == "content-length"):
            found.append((name.lower(), value.decode("latin-1").strip(" \t")))
    return found
