"""A session backend that cannot remove what has expired."""

from django.contrib.sessions.backends.base import SessionBase


class SessionStore(SessionBase):
    """It stores nothing at all."""
