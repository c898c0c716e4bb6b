"""Static files from where they are in the applications, for development."""

from urllib.parse import urlparse

from django.contrib.staticfiles.handlers import StaticFilesHandlerMixin
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.exception import response_for_exception
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from busway.django.handler import AsgiHandler, ViewConsumer


class StaticFilesHandler(AsgiHandler):
    """Answers requests for static files, and leaves others to the views."""

    def __init__(self) -> None:
        """Take STATIC_URL from the settings."""
        super().__init__()
        self._files = StaticFilesHandlerMixin()
        self._files.base_url = urlparse(self._files.get_base_url())

    def is_static(self, path: str) -> bool:
        """Tell whether `path` is that of a static file."""
        found: bool = self._files._should_handle(path)  # noqa: SLF001  (there is no other way)
        return found

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Return a static file, or what the views answer."""
        if self.is_static(request.path):
            try:
                return self._files.get_response(request)
            except SuspiciousOperation as error:  # a path that leads out of the directories
                return response_for_exception(request, error)
        return super().get_response(request)


class StaticFilesConsumer(ViewConsumer):
    """A `ViewConsumer` for static files too: `runworker` uses it while DEBUG is on."""

    handler_class = StaticFilesHandler

    def claims(self, path: str) -> bool:
        """Tell whether `path` is that of a static file."""
        handler = self.handler
        return isinstance(handler, StaticFilesHandler) and handler.is_static(path)
