"""Static files over the bus, for development."""

from busway.django.handler import StaticFilesHandler
from busway.django.views import ViewConsumer

__all__ = ["StaticFilesConsumer", "StaticFilesHandler"]


class StaticFilesConsumer(ViewConsumer):
    """Answers requests for static files too."""

    handler_class = StaticFilesHandler
