"""The WSGI application."""

import os
import weakref
from collections import Counter
from collections.abc import Iterable
from threading import Lock
from wsgiref.types import StartResponse, WSGIEnvironment

from busway.bus.errors import BusError
from busway.bus.layer import ChannelLayer
from busway.bus.urls import open_layer
from busway.interfaces.web.options import CHUNK, WebOptions
from busway.interfaces.web.requests import BadRequest, admit
from busway.interfaces.wsgi.conversation import Conversation, Failure, failure_of, refusal
from busway.interfaces.wsgi.environ import Body, head_of
from busway.interfaces.wsgi.receivers import Receivers
from busway.interfaces.wsgi.response import Response, answer


class WSGIApplication:
    """Hands HTTP requests to the bus and answers with what workers reply.

    For any WSGI server (PEP 3333), with any number of threads, and processes that it forks. A
    thread serves one request at a time, and blocks until the worker has answered.
    """

    def __init__(
        self,
        layer: ChannelLayer | str,
        *,
        http_timeout: float = 25.0,
        root_path: str = "",
        proxy_headers: bool = False,
        proxy_hops: int = 1,
    ) -> None:
        """Serve `layer`.

        Args:
            layer: a channel layer, or the URL of one; that is opened now, and closed with this.
            http_timeout: seconds that a worker may do nothing for a request: take none of its
                body, or send nothing of its response. Then the client gets 503. 0: for ever.
                It should be less than what the server itself allows a request: gunicorn kills
                a worker process after 30 seconds.
            root_path: where this is mounted, if the server does not say so in SCRIPT_NAME:
                "/path" without a slash at the end.
            proxy_headers: take client and scheme from X-Forwarded-For, -Port and -Proto. Only
                behind a proxy that sets them: clients can write anything there.
            proxy_hops: proxies in front that add to X-Forwarded-For, 1 or more.

        Raises `ConfigurationError` for a URL or a value out of range, and `LayerUnavailable`.
        """
        self._options = WebOptions(
            http_timeout=http_timeout,
            root_path=root_path,
            proxy_headers=proxy_headers,
            proxy_hops=proxy_hops,
        )
        own = isinstance(layer, str)
        self.layer = open_layer(layer) if isinstance(layer, str) else layer
        self.drops: Counter[str] = Counter()
        """What was refused, given up or dropped in this process, by reason."""
        self._counting = Lock()
        self._receivers = Receivers(self.layer)
        self._chunk = min(CHUNK, self.layer.message_size // 2)
        self._close = weakref.finalize(self, _close, self._receivers, self.layer if own else None)
        _applications.add(self)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request. See PEP 3333."""
        try:
            return self._serve(environ, start_response)
        except Failure as failure:
            self._count(failure.reason)
            return answer(failure.answer, start_response, method=environ["REQUEST_METHOD"])

    def close(self) -> None:
        """Release everything; the layer is closed if it was given as a URL. Twice is harmless."""
        self._close()

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Have the request answered by a worker. Raises `Failure`."""
        conversation = self._open(environ)
        method = environ["REQUEST_METHOD"]
        try:
            conversation.begin()
            first = conversation.next_part()
            if not conversation.complete:
                response = Response(conversation, first, method=method, count=self._count)
                return response.start(start_response)
        except BaseException:
            # A failure; or the server ends this thread, or does not like the response's head.
            self._end(conversation)
            raise
        self._end(conversation)
        return answer(first, start_response, method=method)

    def _open(self, environ: WSGIEnvironment) -> Conversation:
        try:
            head = head_of(environ)
            admit(head, self._options)
            body = Body(environ, self._chunk)
            return Conversation(self._receivers, head, body, self._options.http_timeout)
        except BadRequest as error:
            raise refusal(error) from error
        except BusError as error:
            raise failure_of(error, environ.get("PATH_INFO", "")) from error

    def _end(self, conversation: Conversation) -> None:
        if dropped := conversation.end():
            self._count("late reply", dropped)

    def _count(self, reason: str, times: int = 1) -> None:
        with self._counting:
            self.drops[reason] += times

    def _after_fork(self) -> None:
        self._counting = Lock()
        self._receivers.abandon()


def _close(receivers: Receivers, layer: ChannelLayer | None) -> None:
    receivers.close()
    if layer is not None:
        layer.close()


_applications: "weakref.WeakSet[WSGIApplication]" = weakref.WeakSet()


def _after_fork() -> None:
    for application in list(_applications):
        application._after_fork()  # noqa: SLF001  (the same module)


os.register_at_fork(after_in_child=_after_fork)
