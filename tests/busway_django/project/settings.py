"""Settings of the tests' project. BUSWAY_TEST_DATABASE is "sqlite", "postgresql" or "mariadb"."""

import os
from pathlib import Path
from tempfile import gettempdir
from typing import Any

SECRET_KEY = "of the tests, and known to everybody"  # noqa: S105
DEBUG = False
ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost", ".example.com"]
INSTALLED_APPS = [
    "busway.django",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "busway_django.project",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "busway_django.project.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
_DATABASES: dict[str, dict[str, Any]] = {
    "sqlite": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("BUSWAY_TEST_SQLITE", Path(gettempdir()) / "busway-test.sqlite3"),
    },
    "postgresql": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "PORT": os.environ.get("BUSWAY_TEST_DATABASE_PORT", "5432"),
    },
    "mariadb": {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "test",
        "USER": "root",
        "HOST": "127.0.0.1",
        "PORT": os.environ.get("BUSWAY_TEST_DATABASE_PORT", "3306"),
    },
}
DATABASES = {"default": _DATABASES[os.environ.get("BUSWAY_TEST_DATABASE", "sqlite")]}
STATIC_URL = "/static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "busway.bus.memory.MemoryChannelLayer",
        "ROUTING": "busway_django.project.routing.channel_routing",
    }
}
SILENCED_SYSTEM_CHECKS = ["busway.W001"]
