from channels.binding.base import CREATE
from channels.binding.websockets import WebsocketBindingWithMembers

from .models import IntegerValue


class IntegerValueBinding(WebsocketBindingWithMembers):

    model = IntegerValue
    stream = "intval"
    fields = ["name", "value", "board"]
    send_members = ["is_negative", "board.slug"]

    @classmethod
    def group_names(cls, instance):
        return ["values-%s" % instance.board.slug]

    def has_permission(self, user, action, pk):
        # Everybody may change values, but only those who are logged in may make new ones
        return action != CREATE or user.is_authenticated
