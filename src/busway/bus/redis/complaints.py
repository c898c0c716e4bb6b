"""What goes wrong with a server: whether to ask again, and what to tell who runs it."""

import re

_WRAPPING = re.compile(r"ERR Error running script \(call to \w+\): (@user_script: ?\d+: )+-?")
"""What Redis 6.2 puts before an error in a script."""

_PLACE = re.compile(r"\.? script: .*on @user_script:\d+$")
"""What later ones put behind it."""


class ServerError(Exception):
    """A reply that is an error; its text begins with what kind of error it is."""

    def __init__(self, text: str) -> None:
        super().__init__(_WRAPPING.sub("", text))


_PASSING = ("ASK", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MOVED", "READONLY", "TRYAGAIN")
"""Errors of a server that is not, or not yet, the one to ask. While a slot moves from node to node
all that is asked there gets ASK: only when it has moved its data is whole again."""

_LOG_IN = "give the right user and password: redis://user:password@host"

_RIGHTS = "give the user the commands of scripts, the keys and the channels of the prefix"

_ADVICE = (
    ("READONLY", "it is a replica: name the master, or use redis+sentinel://"),
    ("LOADING", "it loads its data: wait"),
    ("MASTERDOWN", "it is a replica whose master is away: name the master"),
    ("MOVED", "it is a node of a cluster: use redis+cluster://"),
    ("CLUSTERDOWN", "see `redis-cli --cluster check`"),
    ("NOAUTH", _LOG_IN),
    ("NOPERM|ERR ACL failure|(ERR )?The user executing the script", _RIGHTS),
    ("OOM", "raise `maxmemory`, or use a server of its own for the bus"),
    ("MISCONF", "it cannot save its data: see its log"),
    ("NOREPLICAS", "too few replicas follow it: see its `min-replicas-to-write`"),
    ("BUSY", "wait, or end that script by `redis-cli SCRIPT KILL`"),
    ("WRONGTYPE", "somebody else uses a key of the bus: give it a `prefix` of its own"),
)


def is_passing(error: ServerError) -> bool:
    """Say whether an error ends by itself, and nothing was done."""
    return str(error).startswith(_PASSING)


def explain(error: ServerError) -> str:
    """Return an error of a server, and what to do about it."""
    text = str(error).rstrip(".")
    for start, do in _ADVICE:
        if re.match(start, text):
            return f"{_PLACE.sub('', text).rstrip('.')}; {do}"
    return f"{text}; see its log"


_REMEDIES = (
    ("without any password", "it wants no password: leave it out of the URL"),
    ("NOAUTH|WRONGPASS|[Aa]uthentication|invalid (username-)?password", _LOG_IN),
    ("max number of clients", "raise its `maxclients`, or start fewer processes"),
    ("DB index", "name a database that it has, such as 0, or raise its `databases`"),
    ("loading the dataset", "wait"),
    ("^TLS: .*No such file", "see the files in ssl_ca_certs, ssl_certfile and ssl_keyfile"),
    ("CERTIFICATE_VERIFY_FAILED", "name who signed the server's certificate: ssl_ca_certs=FILE"),
    ("EOF occurred|CERTIFICATE_REQUIRED", "does it want a certificate? ssl_certfile, ssl_keyfile"),
    (
        "^TLS: .*reset by peer",
        "is it running? does it want a certificate (ssl_certfile, ssl_keyfile)?",
    ),
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
