"""A Django site of three views, the same under every server."""

import os

# Seconds. Django advises 0 for servers of ASGI, whose threads come and go.
_AGE = int(os.environ.get("BENCH_CONN_MAX_AGE", "60"))

DEBUG = False
SECRET_KEY = "of the benchmark"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "django_urls"
MIDDLEWARE: list[str] = []
INSTALLED_APPS = ["django_items", *(["busway.django"] if os.environ.get("BENCH_LAYER") else [])]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["BENCH_SQLITE"],
        "CONN_MAX_AGE": _AGE,
    },
    "postgresql": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "CONN_MAX_AGE": _AGE,
    },
}
CHANNEL_LAYERS = {"default": os.environ.get("BENCH_LAYER", "")}
LOGGING_CONFIG = None
USE_I18N = False
WSGI_APPLICATION = "django_server.application"
