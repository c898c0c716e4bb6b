"""The files of a Django project: an application "gallery" of documents, with an admin."""

MANAGE = """
import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gallery.settings")
execute_from_command_line(sys.argv)
"""

SETTINGS = """
import os
from pathlib import Path

BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = "of the tests, and known to everybody"
DEBUG = os.environ.get("GALLERY_DEBUG", "on") == "on"
ALLOWED_HOSTS = [] if DEBUG else ["127.0.0.1", "gallery.example"]
INSTALLED_APPS = [
    "busway.django",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "gallery",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "gallery.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
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
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
STATIC_URL = "/static/"
MEDIA_URL = "/media/"
MEDIA_ROOT = BASE_DIR / "media"
FILE_UPLOAD_TEMP_DIR = BASE_DIR / "uploading"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django": {"handlers": ["console"], "level": "INFO"}},
}
CHANNEL_LAYERS = {"default": {"ROUTING": "gallery.routing.channel_routing"}}
if "GALLERY_BUS" in os.environ:
    CHANNEL_LAYERS["default"]["URL"] = os.environ["GALLERY_BUS"]
"""

MODELS = """
from django.db import models


class Document(models.Model):
    title = models.CharField(max_length=100)
    file = models.FileField(upload_to="documents", blank=True)

    def __str__(self):
        return self.title
"""

ADMIN = """
from django.contrib import admin

from gallery.models import Document


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    list_display = ["title", "file"]
    search_fields = ["title"]
    list_per_page = 10
    ordering = ["pk"]
"""

INITIAL = """
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Document",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False,
                                           verbose_name="ID")),
                ("title", models.CharField(max_length=100)),
                ("file", models.FileField(blank=True, upload_to="documents")),
            ],
        ),
    ]
"""

DATA = """
from django.contrib.auth.hashers import make_password
from django.db import migrations


def fill(apps, editor):
    apps.get_model("auth", "User").objects.create(
        username="ada", password=make_password("lovelace"), is_staff=True, is_superuser=True
    )
    document = apps.get_model("gallery", "Document")
    document.objects.bulk_create(document(title=f"Paper {n}") for n in range(1, 26))


class Migration(migrations.Migration):
    dependencies = [("gallery", "0001_initial"), ("auth", "__latest__")]
    operations = [migrations.RunPython(fill)]
"""

VIEWS = """
import hashlib
import itertools

from busway.django import Channel, Group
from django.conf import settings
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from gallery.models import Document


def hello(request):
    return HttpResponse(f"hello from {settings.BASE_DIR.name}, {request.GET.get('q', '')}")


def fail(request):
    secret_of_the_frame = "shown by the technical page"
    raise RuntimeError("the view raises")


@csrf_exempt
def upload(request):
    print("upload begins", flush=True)
    file = request.FILES.get("file")
    if file is None:
        return HttpResponse("no file", status=400)
    document = Document.objects.create(title=request.POST.get("title", ""), file=file)
    digest = hashlib.sha256()
    for chunk in document.file.chunks():
        digest.update(chunk)
    return JsonResponse({"id": document.pk, "size": file.size, "digest": digest.hexdigest()})


def guarded(request):
    return HttpResponse(request.POST.get("title", ""))


@csrf_exempt
def raw(request):
    print("upload begins", flush=True)
    digest, size = hashlib.sha256(), 0
    while part := request.read(50_000):
        digest.update(part)
        size += len(part)
    return JsonResponse({"size": size, "digest": digest.hexdigest()})


def document(request, pk):
    return FileResponse(Document.objects.get(pk=pk).file.open())


def stream(request, megabytes):
    return StreamingHttpResponse(blocks(megabytes), content_type="application/octet-stream")


def blocks(count):
    block = bytearray(range(256)) * 4096
    for number in range(count):
        block[:8] = number.to_bytes(8)
        yield bytes(block)


def endless(request):
    def parts():
        try:
            for number in itertools.count():
                yield b"%020d" % number * 1000
        finally:
            print("stream closed", flush=True)

    return StreamingHttpResponse(parts())


def broken(request):
    def parts():
        yield b"the beginning"
        raise RuntimeError("the stream raises")

    return StreamingHttpResponse(parts())


async def async_broken(request):
    async def parts():
        yield b"the beginning"
        raise RuntimeError("the stream raises")

    return StreamingHttpResponse(parts())


async def async_hello(request):
    return HttpResponse("hello")


async def async_fail(request):
    raise RuntimeError("the view raises")


@csrf_exempt
async def async_upload(request):
    file = request.FILES.get("file")
    if file is None:
        return HttpResponse("no file", status=400)
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return JsonResponse({"size": file.size, "digest": digest.hexdigest()})


async def async_stream(request, megabytes):
    async def parts():
        for block in blocks(megabytes):
            yield block

    return StreamingHttpResponse(parts(), content_type="application/octet-stream")


async def async_endless(request):
    async def parts():
        try:
            for number in itertools.count():
                yield b"%020d" % number * 1000
        finally:
            print("stream closed", flush=True)

    return StreamingHttpResponse(parts())


def tell(request, channel):
    Channel(channel).send({"text": "from a view"})
    return HttpResponse("told")


def tell_all(request, text):
    Group("everybody").send({"text": text})
    return HttpResponse("told")
"""

URLS = """
from django.contrib import admin
from django.urls import path

from gallery import views

urlpatterns = [
    path("", views.hello),
    path("admin/", admin.site.urls),
    path("fail/", views.fail),
    path("upload/", views.upload),
    path("guarded/", views.guarded),
    path("raw/", views.raw),
    path("document/<int:pk>/", views.document),
    path("stream/<int:megabytes>/", views.stream),
    path("endless/", views.endless),
    path("broken/", views.broken),
    path("async/broken/", views.async_broken),
    path("async/", views.async_hello),
    path("async/fail/", views.async_fail),
    path("async/upload/", views.async_upload),
    path("async/stream/<int:megabytes>/", views.async_stream),
    path("async/endless/", views.async_endless),
    path("tell/<str:channel>/", views.tell),
    path("tell-all/<str:text>/", views.tell_all),
]
"""

CONSUMERS = """
from busway.django import Group
from django.conf import settings

from gallery.version import VERSION


def connect(message):
    if message["path"] == "/refusing/":
        raise RuntimeError("the consumer raises")
    message.reply_channel.send({"accept": True})
    Group("everybody").add(message.reply_channel)


def echo(message):
    message.reply_channel.send({"text": f"{VERSION} {message['text']}"})


def whoami(message):
    answer = {"channel": message.reply_channel.name, "site": settings.BASE_DIR.name}
    message.reply_channel.send({"text": answer[message["text"]]})


def fail(message):
    if message["text"] == "fail":
        raise RuntimeError("the consumer raises")
    message.reply_channel.send({"text": message["text"]})


def disconnect(message):
    print(f"socket gone, {message['path']}", flush=True)
"""

ROUTING = """
from busway.django import route

from gallery import consumers

channel_routing = [
    route("websocket.connect", consumers.connect),
    route("websocket.receive", consumers.echo, path="^/echo/"),
    route("websocket.receive", consumers.whoami, path="^/whoami/"),
    route("websocket.receive", consumers.fail, path="^/fail/"),
    route("websocket.disconnect", consumers.disconnect),
]
"""

FILES = {
    "manage.py": MANAGE,
    "gallery/__init__.py": "",
    "gallery/settings.py": SETTINGS,
    "gallery/models.py": MODELS,
    "gallery/admin.py": ADMIN,
    "gallery/migrations/__init__.py": "",
    "gallery/migrations/0001_initial.py": INITIAL,
    "gallery/migrations/0002_data.py": DATA,
    "gallery/views.py": VIEWS,
    "gallery/urls.py": URLS,
    "gallery/version.py": "VERSION = 0\n",
    "gallery/consumers.py": CONSUMERS,
    "gallery/routing.py": ROUTING,
}
"""Path in the project's directory → content."""
