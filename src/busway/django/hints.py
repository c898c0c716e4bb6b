"""What to do when a message lacks what a decorator would have given it."""

_SESSION = "decorate the consumer with @{0} of busway.django.{1}"

MISSING = {
    "channel_session": _SESSION.format("channel_session", "sessions"),
    "http_session": _SESSION.format("http_session or @channel_and_http_session", "sessions"),
    "user": _SESSION.format("channel_session_user, @http_session_user or a sibling", "auth"),
    "auser": _SESSION.format("channel_session_user, @http_session_user or a sibling", "auth"),
    "token": "decorate the consumer with @token_user of busway.django.tokens",
}
"""Attribute of a message → remedy."""
