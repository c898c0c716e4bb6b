"""What goes wrong with a server: whether to ask again, and what to tell who runs it."""

import re


class ServerError(Exception):
    """A reply that is an error."""


_PASSING = ("ASK", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MOVED", "READONLY", "TRYAGAIN")
"""Errors of a server that is not, or not yet, the one to ask. While a slot moves from node to node
all that is asked there gets ASK: only when it has moved its data is whole again."""

_LOG_IN = "give the right user and password: redis://user:password@host"

_ADVICE = {
    "READONLY": "it is a replica: name the master, or use redis+sentinel://",
    "LOADING": "it loads its data: wait",
    "MOVED": "it is a node of a cluster: use redis+cluster://",
    "CLUSTERDOWN": "see `redis-cli --cluster check`",
    "NOAUTH": _LOG_IN,
    "NOPERM": "give the user the commands of scripts, the keys and the channels of the prefix",
    "OOM": "raise `maxmemory`, or use a server of its own for the bus",
    "MISCONF": "it cannot save its data: see its log",
}


def is_passing(error: ServerError) -> bool:
    """Say whether an error ends by itself, and nothing was done."""
    return str(error).startswith(_PASSING)


def explain(error: ServerError) -> str:
    """Return an error of a server, and what to do about it."""
    text = str(error).rstrip(".")
    do = next((do for start, do in _ADVICE.items() if text.startswith(start)), "see its log")
    return f"{text}; {do}"


_REMEDIES = (
    ("NOAUTH|WRONGPASS|[Aa]uthentication|invalid (username-)?password", _LOG_IN),
    ("CERTIFICATE_VERIFY_FAILED", "name who signed the server's certificate: ssl_ca_certs=FILE"),
    ("EOF occurred|CERTIFICATE_REQUIRED", "does it want a certificate? ssl_certfile, ssl_keyfile"),
    ("^TLS", "is the server running, and does that port speak TLS? redis:// is for one without"),
    ("closed by server|[Rr]eset by peer", "is the server running? a port with TLS wants rediss://"),
    ("", "is the server running, and the address right?"),
)
"""What to do about a connection that could not be made, by what is in the error's text."""


def explain_failure(error: Exception, *, tls: bool) -> str:
    """Return why a connection could not be made, and what to do about it."""
    text = str(error).rstrip(".")
    found = f"TLS: {text}" if tls else text
    return f"{text}; {next(do for sign, do in _REMEDIES if re.search(sign, found))}"
