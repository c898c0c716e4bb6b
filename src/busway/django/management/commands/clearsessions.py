"""`manage.py clearsessions`: Django's, for channel sessions as well."""

from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.sessions.management.commands import clearsessions
from django.core.management.base import CommandError

from busway.django.session_stores import channel_engine


class Command(clearsessions.Command):
    """See `help`. Used where `busway.django` stands before the sessions in INSTALLED_APPS."""

    help = (
        "Removes the sessions that have expired: those of SESSION_ENGINE, and of "
        "CHANNEL_SESSION_ENGINE."
    )

    def handle(self, **options: Any) -> None:
        """Remove them; raises `CommandError` for a backend that cannot."""
        super().handle(**options)
        if channel_engine() == settings.SESSION_ENGINE:
            return
        try:
            import_module(channel_engine()).SessionStore.clear_expired()
        except NotImplementedError:
            raise CommandError(
                f"the session engine {channel_engine()!r} cannot clear expired sessions"
            ) from None
