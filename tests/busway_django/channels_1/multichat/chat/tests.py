import json
from urllib.request import urlopen

from channels import Group, route
from channels.tests import (
    ChannelLiveServerTestCase,
    ChannelTestCase,
    WSClient,
    apply_routes,
)
from django.conf import settings
from django.contrib.auth.models import User

from .consumers import ws_connect
from .models import Room

STREAM = "/chat/stream/"


class ChatTests(ChannelTestCase):
    def setUp(self):
        self.room = Room.objects.create(title="Lobby")
        self.staff_room = Room.objects.create(title="Backstage", staff_only=True)
        User.objects.create_user("ada", password="secret")
        User.objects.create_user("grace", password="secret", is_staff=True)

    def client_of(self, username):
        client = WSClient()
        client.login(username=username, password="secret")
        client.send_and_consume("websocket.connect", path=STREAM)
        self.assertIsNone(client.receive())
        return client

    def command(self, client, **content):
        client.send_and_consume("websocket.receive", text=content, path=STREAM)
        client.consume("chat.receive")

    def test_join_send_leave(self):
        ada, grace = self.client_of("ada"), self.client_of("grace")
        self.command(ada, command="join", room=self.room.id)
        self.assertEqual(ada.receive(), {"join": str(self.room.id), "title": "Lobby"})

        self.command(grace, command="join", room=self.room.id)
        self.assertEqual(ada.receive()["msg_type"], settings.MSG_TYPE_ENTER)
        self.assertEqual(grace.receive()["title"], "Lobby")

        self.command(ada, command="send", room=self.room.id, message="hello")
        for client in (ada, grace):
            self.assertEqual(
                client.receive(),
                {
                    "room": str(self.room.id),
                    "message": "hello",
                    "username": "ada",
                    "msg_type": settings.MSG_TYPE_MESSAGE,
                },
            )

        self.command(grace, command="leave", room=self.room.id)
        self.assertEqual(ada.receive()["msg_type"], settings.MSG_TYPE_LEAVE)
        # The one who leaves is still in the room when it is told
        self.assertEqual(grace.receive()["msg_type"], settings.MSG_TYPE_LEAVE)
        self.assertEqual(grace.receive(), {"leave": str(self.room.id)})
        self.command(ada, command="send", room=self.room.id, message="bye")
        self.assertEqual(ada.receive()["message"], "bye")
        self.assertIsNone(grace.receive())

    def test_errors(self):
        ada = self.client_of("ada")
        self.command(ada, command="join", room=self.staff_room.id)
        self.assertEqual(ada.receive(), {"error": "ROOM_ACCESS_DENIED"})
        self.command(ada, command="join", room=4711)
        self.assertEqual(ada.receive(), {"error": "ROOM_INVALID"})
        self.command(ada, command="send", room=self.room.id, message="hello")
        self.assertEqual(ada.receive(), {"error": "ROOM_ACCESS_DENIED"})

    def test_not_logged_in(self):
        client = WSClient()
        client.send_and_consume("websocket.connect", path=STREAM)
        self.command(client, command="join", room=self.room.id)
        self.assertEqual(client.receive(), {"error": "USER_HAS_TO_LOGIN"})

    def test_disconnect_leaves_rooms(self):
        grace = self.client_of("grace")
        for room in (self.room, self.staff_room):
            self.command(grace, command="join", room=room.id)
            grace.receive()
        grace.send_and_consume("websocket.disconnect", path=STREAM)
        self.room.websocket_group.send({"text": "{}"})
        self.assertIsNone(grace.receive())

    def test_session_is_kept(self):
        ada = self.client_of("ada")
        self.command(ada, command="join", room=self.room.id)
        self.command(ada, command="join", room=self.room.id)
        client_session = self.session_of(ada)
        self.assertEqual(client_session["rooms"], [self.room.id])

    def session_of(self, client):
        from channels.message import Message
        from channels.sessions import channel_session

        message = Message(
            {"reply_channel": client.reply_channel}, "test", client.channel_layer
        )
        return channel_session(lambda message: message.channel_session)(message)

    def test_next_message(self):
        ada = self.client_of("ada")
        ada.send_and_consume(
            "websocket.receive", text={"command": "join", "room": 1}, path=STREAM
        )
        message = self.get_next_message("chat.receive", require=True)
        self.assertEqual(message.content["command"], "join")
        self.assertEqual(str(message.reply_channel), ada.reply_channel)
        self.assertIsNone(self.get_next_message("chat.receive"))

    def test_room_group(self):
        client = WSClient()
        client.join_group(self.room.websocket_group.name)
        Group("room-%s" % self.room.id).send({"text": json.dumps({"a": 1})})
        self.assertEqual(client.receive(), {"a": 1})


@apply_routes([route("websocket.connect", ws_connect, path=r"^/elsewhere$")])
class RouteTests(ChannelTestCase):
    def test_other_path(self):
        client = WSClient()
        client.send_and_consume("websocket.connect", path="/elsewhere")
        self.assertIsNone(client.receive())

    def test_context(self):
        def echo(message):
            message.reply_channel.send({"text": message["text"]})

        with apply_routes(route("websocket.receive", echo)):
            client = WSClient()
            client.send_and_consume("websocket.receive", text={"key": "value"})
            self.assertEqual(client.receive(), {"key": "value"})


class LiveTests(ChannelLiveServerTestCase):
    def get(self, path):
        with urlopen(self.live_server_url + path, timeout=30) as response:
            return response.read().decode()

    def test_consumer_and_view(self):
        Room.objects.create(title="Lobby")
        self.assertEqual(self.get("/health/"), "1 rooms at /health/")
        self.assertIn("<title>Log in</title>", self.get("/"))
