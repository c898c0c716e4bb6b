import json

from channels import Group
from django.conf import settings
from django.db import models


class Room(models.Model):
    title = models.CharField(max_length=255)

    # If only "staff" users are allowed (is_staff on django's User)
    staff_only = models.BooleanField(default=False)

    def __str__(self):
        return self.title

    @property
    def websocket_group(self):
        """
        The Group that sockets subscribe to, to get what is said in this room.
        """
        return Group("room-%s" % self.id)

    def send_message(self, message, user, msg_type=settings.MSG_TYPE_MESSAGE):
        final_msg = {
            "room": str(self.id),
            "message": message,
            "username": user.username,
            "msg_type": msg_type,
        }
        self.websocket_group.send({"text": json.dumps(final_msg)})
