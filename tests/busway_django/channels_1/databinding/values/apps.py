from django.apps import AppConfig


class ValuesConfig(AppConfig):
    name = "values"

    def ready(self):
        from . import bindings  # noqa
