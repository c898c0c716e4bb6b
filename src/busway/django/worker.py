"""The worker, for receivers of signals: it is the sender of those in `busway.django.signals`."""

from busway.app.worker import Worker

__all__ = ["Worker"]
