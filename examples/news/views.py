"""A long poll: a view that answers when there is something to say, without a thread that waits."""

from django.db import transaction
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render

from busway.django import Channel, Group
from busway.django.exceptions import ResponseLater
from busway.django.handler import AsgiHandler
from news.models import Headline

WAITING = Group("news.waiting")
PATIENCE = 25.0
"""Seconds that a request waits."""


def page(request):
    """Show the page."""
    return render(request, "news/page.html")


def following(request, pk):
    """Answer with the headlines after `pk`; if there are none, later."""
    # At once and before the look: what is published after that goes to the group.
    WAITING.add(request.reply_channel, immediately=True)
    headlines = Headline.objects.filter(pk__gt=pk)
    if headlines:
        return answer(headlines)
    timeout = {"reply_channel": request.reply_channel.name}
    Channel("news.timeout").send(timeout, delay=PATIENCE)
    raise ResponseLater


def publish(sender, instance, created, **kwargs):
    """Answer all who wait for a new headline, once it is committed."""
    if created:
        transaction.on_commit(lambda: send(WAITING, answer([instance])))


def give_up(message):
    """Answer one who has waited long enough; nothing happens if they have an answer."""
    send(message.reply_channel, HttpResponse(status=204))


def answer(headlines):
    """Return the response with `headlines`."""
    news = [{"id": headline.pk, "text": headline.text} for headline in headlines]
    return JsonResponse({"headlines": news})


def send(to, response):
    """Send a response to a reply channel, or a group of them."""
    for part in AsgiHandler.encode_response(response):
        to.send(part)
