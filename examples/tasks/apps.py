"""The application."""

from django.apps import AppConfig


class TasksConfig(AppConfig):
    """Binds the tasks in every process that may change them."""

    name = "tasks"

    def ready(self):
        """Import the bindings."""
        from tasks import bindings  # noqa: F401, PLC0415
