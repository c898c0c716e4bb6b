"""Tasks, bound to the sockets that show them."""

from busway.django.binding.websockets import WebsocketBinding
from tasks.models import Task


class TaskBinding(WebsocketBinding):
    """Tells of each change, whoever makes it, and lets pages tick tasks off."""

    model = Task
    stream = "tasks"
    fields = ["title", "done"]

    @classmethod
    def group_names(cls, instance):
        """Return the groups that are told: all who may see tasks are in this one."""
        return ["tasks"]

    def has_permission(self, user, action, pk):
        """Let pages do what their user may do in the admin."""
        word = {"create": "add", "update": "change", "delete": "delete"}.get(action)
        return word is not None and user.has_perm(f"tasks.{word}_task")
