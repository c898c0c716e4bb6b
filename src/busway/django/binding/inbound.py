"""What clients want to happen to instances of a model."""

import inspect
import logging
from collections.abc import Callable
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError

from busway.app.message import Message
from busway.bus.errors import UsageError
from busway.django.binding.actions import CREATE, DELETE, UPDATE
from busway.django.generic.base import decorator

logger = logging.getLogger("busway.django")

Handler = Callable[..., None]
Rejection = PermissionDenied | ValidationError | ObjectDoesNotExist


class Inbound:
    """Carries out what clients ask for, if they may."""

    channel_session_user: ClassVar[bool] = True
    """Whether `message.user` is looked up in the channel session."""
    channel_session: ClassVar[bool] = False
    """Whether there is a channel session, without a user."""

    message: Message
    """The client's message."""
    kwargs: dict[str, Any]
    """The arguments from its route, and the `multiplexer` of its stream."""
    user: Any
    """Who sent it: `message.user`, or an `AnonymousUser`."""

    @classmethod
    def consumer(cls, message: Message, **kwargs: Any) -> None:
        """Handle a client's message: for routes, and for streams of a demultiplexer."""
        cls.get_handler()(message, **kwargs)

    @classmethod
    async def aconsumer(cls, message: Message, **kwargs: Any) -> None:
        """Do `consumer` for streams of an async demultiplexer, in a thread."""
        await sync_to_async(cls.consumer)(message, **kwargs)

    @classmethod
    def get_handler(cls) -> Handler:
        """Return what handles messages, with the decorators that the class asks for."""
        if cls.channel_session_user:
            return decorator("auth.channel_session_user")(cls.trigger_inbound)
        if cls.channel_session:
            return decorator("sessions.channel_session")(cls.trigger_inbound)
        return cls.trigger_inbound

    @classmethod
    def trigger_inbound(cls, message: Message, **kwargs: Any) -> None:
        """Carry out what `message` asks for, or tell `rejected` why not."""
        from django.contrib.auth.models import AnonymousUser  # noqa: PLC0415  (a model's module)

        binding = cls()
        binding.message = message
        binding.kwargs = kwargs
        binding.user = getattr(message, "user", None) or AnonymousUser()
        try:
            action, pk, data = binding.deserialize(message)
            binding.run_action(action, pk, data)
        except (PermissionDenied, ValidationError, ObjectDoesNotExist) as error:
            binding.rejected(error)

    def deserialize(self, message: Message) -> tuple[str, Any, Any]:
        """Return the action, primary key and data that `message` asks for.

        Raises `ValidationError` when it is of another form.
        """
        raise NotImplementedError

    def has_permission(self, user: Any, action: str, pk: Any) -> bool:
        """Tell whether `user` may do `action` ("create", "update", "delete") to `pk`.

        `pk` is None for a create. Nobody may do anything unless you override this.
        """
        del user, action, pk
        return False

    def run_action(self, action: str, pk: Any, data: Any) -> None:
        """Do `action`. Raises `PermissionDenied`, and `ValidationError` for unknown ones."""
        if action not in (CREATE, UPDATE, DELETE):
            raise ValidationError(f"there is no action {action[:50]!r}")
        if action == CREATE:
            pk = None  # There is none yet: permission is not asked for what a client made up.
        permitted: Any = self.has_permission(self.user, action, pk)
        if inspect.iscoroutine(permitted):
            permitted.close()
            raise UsageError(
                f"{type(self).__qualname__}.has_permission() is async; bindings are sync"
            )
        if not permitted:
            raise PermissionDenied
        if action == CREATE:
            self.create(data)
        elif action == UPDATE:
            self.update(pk, data)
        else:
            self.delete(pk)

    def rejected(self, error: Rejection) -> None:
        """Handle a message that was not carried out: it is logged.

        Override it to tell the client, `self.kwargs["multiplexer"].send(…)`.
        """
        name = type(self).__qualname__
        found = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
        reason = found or type(error).__name__
        logger.warning("%s rejected what %s asked for: %s", name, self.user, reason)

    def create(self, data: Any) -> None:
        """Create an instance of `data`."""
        raise NotImplementedError

    def update(self, pk: Any, data: Any) -> None:
        """Change the instance `pk`."""
        raise NotImplementedError

    def delete(self, pk: Any) -> None:
        """Delete the instance `pk`."""
        raise NotImplementedError
