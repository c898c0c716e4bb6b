"""URLs of the tests of views over the bus."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.core.files.uploadedfile import UploadedFile
from django.db import connection, connections
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.urls import path
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from busway.app.exceptions import ConsumeLater
from busway.django.requests import AsgiRequest
from busway_django.project.models import Note


def meta(request: HttpRequest) -> HttpResponse:
    """Say what the request is made of."""
    return JsonResponse(
        {
            "meta": {key: value for key, value in request.META.items() if key != "wsgi.input"},
            "path": request.path,
            "path_info": request.path_info,
            "full_path": request.get_full_path(),
            "uri": request.build_absolute_uri(),
            "secure": request.is_secure(),
            "method": request.method,
            "get": dict(request.GET.lists()),
            "post": dict(request.POST.lists()),
            "cookies": request.COOKIES,
            "files": {
                name: [file.name, hashlib.sha256(file.read()).hexdigest()]
                for name, file in cast("dict[str, UploadedFile[bytes]]", request.FILES).items()
            },
            "thread": threading.current_thread().name,
        }
    )


def echo(request: HttpRequest) -> HttpResponse:
    """Answer with the body."""
    return HttpResponse(request.body, content_type="application/octet-stream")


def digest(request: HttpRequest) -> HttpResponse:
    """Read the body in parts, and answer with its length and digest."""
    found, length = hashlib.sha256(), 0
    while chunk := request.read(100_000):
        found.update(chunk)
        length += len(chunk)
    return JsonResponse([length, found.hexdigest()], safe=False)


def lines(request: HttpRequest) -> HttpResponse:
    """Answer with the lengths of the body's lines."""
    return JsonResponse([len(line) for line in request], safe=False)


def peek(request: HttpRequest) -> HttpResponse:
    """Answer without having read the body."""
    return HttpResponse("not read")


def cookies(request: HttpRequest) -> HttpResponse:
    """Set two cookies and delete one."""
    response = HttpResponse("cookies", headers={"X-Own": "ö"})
    response.set_cookie("colour", "red", httponly=True)
    response.set_cookie("size", "big", max_age=60)
    response.delete_cookie("old")
    return response


def large(request: HttpRequest) -> HttpResponse:
    """Answer with more than a chunk."""
    return HttpResponse(b"0123456789" * int(request.GET["size"]))


def file(request: HttpRequest) -> FileResponse:
    """Answer with a file."""
    return FileResponse(Path(request.GET["name"]).open("rb"), as_attachment=True)


async def async_file(request: HttpRequest) -> FileResponse:
    """Answer with a file, from an async view."""
    return file(request)


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Answer with parts."""
    parts = (f"part {number};" for number in range(int(request.GET.get("count", 3))))
    return StreamingHttpResponse(parts, content_type="text/plain")


async def _parts(count: int) -> AsyncIterator[str]:
    for number in range(count):
        await asyncio.sleep(0)
        yield f"part {number} in {threading.current_thread().name};"


def sync_view_async_stream(request: HttpRequest) -> StreamingHttpResponse:
    """Answer with parts of an async generator, from a sync view."""
    return StreamingHttpResponse(_parts(3))


async def async_stream(request: HttpRequest) -> StreamingHttpResponse:
    """Answer with parts of an async generator."""
    return StreamingHttpResponse(_parts(3))


async def async_rows(request: HttpRequest) -> StreamingHttpResponse:
    """Answer with parts that a sync generator reads from the database."""

    def rows() -> Iterator[str]:
        yield from (note.text for note in Note.objects.order_by("id"))

    return StreamingHttpResponse(rows())


closed: list[str] = []
"""What was closed: the test that looks at it clears it."""


async def endless(request: HttpRequest) -> StreamingHttpResponse:
    """Answer without an end."""

    async def ticks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick" * 1000
        finally:
            closed.append(request.GET["name"])

    return StreamingHttpResponse(ticks())


async def where(request: HttpRequest) -> HttpResponse:
    """Say where an async view runs."""
    loop = asyncio.get_running_loop()
    return JsonResponse({"thread": threading.current_thread().name, "loop": id(loop)})


async def form(request: HttpRequest) -> HttpResponse:
    """Read a form in an async view."""
    return JsonResponse(dict(request.POST.lists()))


class ClassView(View):
    """A view as a class, async."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        """Say where it runs."""
        return HttpResponse(threading.current_thread().name)


def boom(request: HttpRequest) -> HttpResponse:
    """Fail."""
    raise RuntimeError("the view is broken")


async def async_boom(request: HttpRequest) -> HttpResponse:
    """Fail, asynchronously."""
    raise RuntimeError("the view is broken")


def empty(request: HttpRequest) -> HttpResponse:
    """Answer with nothing."""
    return HttpResponse(status=int(request.GET["status"]))


waiting: list[str] = []
"""Reply channels that wait for their answers."""


def later(request: AsgiRequest) -> HttpResponse:
    """Let others answer."""
    waiting.append(request.reply_channel.name)
    raise AsgiRequest.ResponseLater


async def alater(request: AsgiRequest) -> HttpResponse:
    """Let others answer, from an async view."""
    return later(request)


async def aagain(request: HttpRequest) -> HttpResponse:
    """Answer at the second try, from an async view."""
    return again(request)


tries: list[str] = []
"""Requests that were put back."""


def again(request: HttpRequest) -> HttpResponse:
    """Answer at the second try."""
    tries.append(request.GET["name"])
    if tries.count(request.GET["name"]) < 2:
        raise ConsumeLater(delay=0)
    return HttpResponse("now")


def backend(request: HttpRequest) -> HttpResponse:
    """Say which database connection is used, and that it works."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"connection": id(connection.connection), "notes": Note.objects.count()})


used: dict[str, Any] = {}
"""What async views have used of the database, by the name that the request gave."""


async def async_backend(request: HttpRequest) -> HttpResponse:
    """Use the database from an async view."""
    used[request.GET.get("name", "")] = await sync_to_async(lambda: connections["default"])()
    return JsonResponse({"notes": await Note.objects.acount()})


def _path(view: Any) -> Any:
    return path(f"{view.__name__}/", view if view is form else csrf_exempt(view))


_VIEWS: list[Any] = [
    *(meta, echo, digest, lines, peek, cookies, large, file, async_file, stream),
    *(sync_view_async_stream, async_stream, async_rows, endless, where, form, boom, async_boom),
    *(empty, later, again, alater, aagain, backend, async_backend),
]


def plain(request: HttpRequest) -> HttpResponseBase:
    """Answer the root."""
    return HttpResponse("hello")


urlpatterns = [path("", plain), path("class/", ClassView.as_view()), *map(_path, _VIEWS)]
