from channels import Channel
from channels.generic.websockets import (
    JsonWebsocketConsumer,
    WebsocketDemultiplexer,
    WebsocketMultiplexer,
)

from .bindings import IntegerValueBinding
from .models import IntegerValue


class StatusConsumer(JsonWebsocketConsumer):
    """
    Counts values, and tells everybody what somebody says.
    """

    def connect(self, message, multiplexer=None, board=None, **kwargs):
        multiplexer.send({"count": IntegerValue.objects.filter(board__slug=board).count()})

    def receive(self, content, multiplexer=None, board=None, **kwargs):
        if content.get("expire"):
            Channel("asgi.delay").send(
                {
                    "channel": "values.expire",
                    "delay": 200,
                    "content": {"value": content["expire"]},
                }
            )
            return
        text = {"said": content["say"], "by": self.message.user.username}
        WebsocketMultiplexer.group_send("values-%s" % board, multiplexer.stream, text)

    def disconnect(self, message, multiplexer=None, **kwargs):
        pass


class Demultiplexer(WebsocketDemultiplexer):
    http_user = True

    consumers = {
        "intval": IntegerValueBinding.consumer,
        "status": StatusConsumer,
    }

    def connection_groups(self, board, **kwargs):
        return ["values-%s" % board]


def expire(message):
    IntegerValue.objects.get(pk=message.content["value"]).delete()
