"""The chat: each function handles one message of a page's WebSocket."""

import json

from busway.django.auth import channel_session_user, channel_session_user_from_http
from chat.models import Post, Room, Visit

HISTORY = 50


@channel_session_user_from_http
def connect(message, slug):
    """Somebody opens the page of a room."""
    room = Room.objects.filter(slug=slug).first()
    if room is None or not message.user.is_authenticated:
        # Accepted and then closed, so that the page is told why and stays away.
        message.reply_channel.send({"accept": True})
        message.reply_channel.send({"close": 4403, "reason": "This room is not for you."})
        return
    message.reply_channel.send({"accept": True})
    # At once, so that the list of people has this one too, and nothing that is said is missed.
    room.group.add(message.reply_channel, immediately=True)
    Visit.objects.create(room=room, user=message.user, socket=message.reply_channel.name)
    tell(room.group, people=room.people())


@channel_session_user
def receive(message, slug):
    """Somebody says something, or asks what was said since they were here last."""
    room = Room.objects.get(slug=slug)
    asked = json.loads(message["text"])
    if "since" in asked:
        posts = room.posts.filter(pk__gt=asked["since"]).select_related("author")
        missed = [post.as_dict() for post in posts.reverse()[:HISTORY]]
        tell(message.reply_channel, posts=missed[::-1])
    elif text := asked["text"].strip():
        post = Post(room=room, author=message.user, text=text)
        post.full_clean()
        post.save()
        tell(room.group, posts=[post.as_dict()])


@channel_session_user
def disconnect(message, slug):
    """Somebody has closed the page, or is lost."""
    Visit.objects.filter(socket=message.reply_channel.name).delete()
    if room := Room.objects.filter(slug=slug).first():
        tell(room.group, people=room.people())


def tell(to, **news):
    """Send JSON to a socket or a group."""
    to.send({"text": json.dumps(news)})
