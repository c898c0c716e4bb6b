from channels import route_class
from channels.binding.base import CREATE, DELETE, UPDATE
from channels.generic.websockets import JsonWebsocketConsumer
from channels.test import TransactionChannelTestCase, WSClient, apply_routes
from django.contrib.auth.models import User

from .models import Board, IntegerValue

PATH = "/binding/main/"


class BindingTests(TransactionChannelTestCase):
    def setUp(self):
        self.board = Board.objects.create(slug="main")
        self.other = Board.objects.create(slug="other")

    def frame(self, value, action, **data):
        return {
            "stream": "intval",
            "payload": {
                "action": action,
                "pk": value.pk,
                "data": dict(
                    {"name": value.name, "value": value.value, "board": self.board.pk},
                    is_negative=value.value < 0,
                    board__slug="main",
                    **data
                ),
                "model": "values.integervalue",
            },
        }

    def connected(self, client):
        client.send_and_consume("websocket.connect", path=PATH)
        frame = client.receive()
        self.assertEqual(frame["stream"], "status")
        return frame["payload"]["count"]

    def test_outbound(self):
        client = WSClient()
        self.assertEqual(self.connected(client), 0)

        value = IntegerValue.objects.create(board=self.board, name="answer", value=41)
        self.assertEqual(client.receive(), self.frame(value, CREATE))
        value.value = -1
        value.save()
        self.assertEqual(client.receive(), self.frame(value, UPDATE))

        # To another board and back
        value.board = self.other
        value.save()
        received = client.receive()
        self.assertEqual(received["payload"]["action"], DELETE)
        value.board = self.board
        value.save()
        self.assertEqual(client.receive(), self.frame(value, CREATE))

        frame = self.frame(value, DELETE)
        value.delete()
        self.assertEqual(client.receive(), frame)
        self.assertIsNone(client.receive())

    def inbound(self, client, **payload):
        client.send_and_consume(
            "websocket.receive", path=PATH, text={"stream": "intval", "payload": payload}
        )

    def test_inbound(self):
        User.objects.create_user("ada", password="secret")
        client = WSClient()
        client.login(username="ada", password="secret")
        self.connected(client)
        data = {"name": "pi", "value": 3, "board": self.board.pk, "secret": "stolen"}
        self.inbound(client, action="create", data=data)
        value = IntegerValue.objects.get()
        self.assertEqual((value.name, value.secret), ("pi", "hidden"))
        self.assertEqual(client.receive(), self.frame(value, CREATE))

        self.inbound(client, action="update", pk=value.pk, data={"value": 4, "secret": "x"})
        value.refresh_from_db()
        self.assertEqual((value.value, value.secret), (4, "hidden"))
        self.assertEqual(client.receive(), self.frame(value, UPDATE))

        self.inbound(client, action="delete", pk=value.pk)
        self.assertFalse(IntegerValue.objects.exists())

    def test_permission(self):
        client = WSClient()
        self.connected(client)
        data = {"name": "pi", "value": 3, "board": self.board.pk}
        self.inbound(client, action="create", data=data)
        self.assertFalse(IntegerValue.objects.exists())

    def test_status(self):
        User.objects.create_user("ada", password="secret")
        ada, other = WSClient(), WSClient()
        ada.force_login(User.objects.get())
        for client in (ada, other):
            self.connected(client)
        ada.send_and_consume(
            "websocket.receive",
            path=PATH,
            text={"stream": "status", "payload": {"say": "hello"}},
        )
        for client in (ada, other):
            self.assertEqual(
                client.receive(),
                {"stream": "status", "payload": {"said": "hello", "by": "ada"}},
            )

    def test_disconnect(self):
        client = WSClient()
        self.connected(client)
        client.send_and_consume("websocket.disconnect", path=PATH)
        IntegerValue.objects.create(board=self.board, name="late")
        self.assertIsNone(client.receive())


class Echo(JsonWebsocketConsumer):
    channel_session = True

    def connect(self, message, **kwargs):
        self.message.reply_channel.send({"accept": True})
        self.message.channel_session["count"] = 0

    def receive(self, content, **kwargs):
        self.message.channel_session["count"] += 1
        self.send({"echo": content, "count": self.message.channel_session["count"]})
        if content == "stop":
            self.close()


class ClassTests(TransactionChannelTestCase):
    @apply_routes([route_class(Echo, path="/echo")])
    def test_class(self):
        client = WSClient()
        client.send_and_consume("websocket.connect", path="/echo")
        for count, (text, content) in enumerate(
            [('"a"', "a"), ({"b": 1}, {"b": 1}), ('"stop"', "stop")], 1
        ):
            client.send_and_consume("websocket.receive", path="/echo", text=text)
            self.assertEqual(client.receive(), {"echo": content, "count": count})
        self.assertEqual(client.receive(), {"close": True})
