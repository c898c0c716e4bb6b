"""A request as a WSGI server hands it over (PEP 3333), made fit for the bus."""

from wsgiref.types import WSGIEnvironment

from busway.interfaces.web.requests import Address, BadRequest, Head

_OF_BODY = ("CONTENT_TYPE", "CONTENT_LENGTH")
_DOUBLES = tuple(f"HTTP_{name}" for name in _OF_BODY)
"""They come from names with an underscore, so they are not the headers that they look like."""


def head_of(environ: WSGIEnvironment) -> Head:
    """Return the head of the request that `environ` describes.

    A WSGI server has put repeated headers together, and has made one of "x-user" and "x_user":
    it is for the server to drop the latter.

    Raises `BadRequest` for text that is not the Latin-1 of PEP 3333.
    """
    script = environ.get("SCRIPT_NAME", "")
    try:
        return Head(
            scheme=environ.get("wsgi.url_scheme", "http"),
            http_version=environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"),
            method=environ.get("REQUEST_METHOD", "GET"),
            path=_decode(script + environ.get("PATH_INFO", "")) or "/",
            query_string=environ.get("QUERY_STRING", "").encode("latin-1"),
            root_path=_decode(script),
            headers=_headers(environ),
            client=_address(environ.get("REMOTE_ADDR"), environ.get("REMOTE_PORT")),
            server=_address(environ.get("SERVER_NAME"), environ.get("SERVER_PORT")),
        )
    except UnicodeEncodeError:
        raise BadRequest(400, "The request has characters that are not allowed.") from None


def _decode(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "replace")


def _headers(environ: WSGIEnvironment) -> list[tuple[bytes, bytes]]:
    found = [
        (key[5:].replace("_", "-").lower().encode("latin-1"), value.encode("latin-1"))
        for key, value in environ.items()
        if key.startswith("HTTP_") and key not in _DOUBLES
    ]
    found.extend(
        (key.replace("_", "-").lower().encode(), environ[key].encode("latin-1"))
        for key in _OF_BODY
        if environ.get(key)
    )
    return found


def _address(host: str | None, port: object) -> Address:
    if not host:
        return None  # a UNIX socket has none
    number = str(port)
    return host, int(number) if number.isdecimal() else None


class Body:
    """The body of a request, read in parts."""

    def __init__(self, environ: WSGIEnvironment, size: int) -> None:
        """Read the body in `environ`, in parts of `size` bytes.

        Raises `BadRequest` for a length that is none, and for a body of unknown length under a
        server that does not say where it ends.
        """
        self._input = environ["wsgi.input"]
        self._size = size
        self._left: int | None = None
        """Bytes that are still to come; None: until the input ends."""
        length = environ.get("CONTENT_LENGTH")
        if length:
            if not (length.isascii() and length.isdecimal()):
                raise BadRequest(400, "The Content-Length is not a number.")
            self._left = int(length)
        elif not environ.get("wsgi.input_terminated"):
            if environ.get("HTTP_TRANSFER_ENCODING"):
                raise BadRequest(411, "The request needs a Content-Length.")
            self._left = 0

    def read(self) -> tuple[bytes, bool]:
        """Return the next part, and whether there is more. It blocks until the part is there.

        Raises `BadRequest` when the client has gone (400) or stalls (408): as far as the server
        tells.
        """
        wanted = self._size if self._left is None else min(self._size, self._left)
        part = self._read(wanted)
        if self._left is None:
            return part, len(part) == wanted
        if len(part) < wanted:
            raise BadRequest(400, "The request body is not complete.")
        self._left -= wanted
        return part, self._left > 0

    def _read(self, wanted: int) -> bytes:
        """Return `wanted` bytes, or fewer at the end of the input."""
        pieces: list[bytes] = []
        while wanted:
            try:
                piece = self._input.read(wanted)
            except OSError as error:
                # uWSGI and mod_wsgi say it in the text only.
                if isinstance(error, TimeoutError) or "timeout" in str(error):
                    raise BadRequest(408, "The request body did not arrive.") from error
                raise BadRequest(400, "The request body is not complete.") from error
            if not piece:
                break
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)
