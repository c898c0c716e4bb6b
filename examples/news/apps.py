"""The application."""

from django.apps import AppConfig
from django.db.models.signals import post_save


class NewsConfig(AppConfig):
    """Publishes headlines, wherever they are saved."""

    name = "news"

    def ready(self):
        """Listen to the model."""
        from news import views  # noqa: PLC0415

        post_save.connect(views.publish, sender="news.Headline")
