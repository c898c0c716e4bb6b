"""What happens to instances of a model, told to groups of sockets."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from django.db import models, transaction

from busway.bus.codec import encode_message
from busway.bus.errors import BuswayError, UsageError
from busway.bus.names import check_group
from busway.django.binding.actions import CREATE, DELETE, UPDATE
from busway.django.binding.before import current, recall, remember, stored
from busway.django.channels import Group
from busway.django.layers import DEFAULT_CHANNEL_LAYER, channel_layers

logger = logging.getLogger("busway.django")

Names = frozenset[str]


class Outbound:
    """Tells groups of changes, once they are committed.

    What is sent is made when the change is: an instance that is changed again before the commit
    is told of twice. Changes that send no signals (`QuerySet.update`, `bulk_create`, raw SQL,
    fixtures) are not told.
    """

    stream: ClassVar[str | None] = None
    """The stream that messages are sent on."""
    layer_alias: ClassVar[str] = DEFAULT_CHANNEL_LAYER
    """The channel layer that has the groups."""
    signal_kwargs: Mapping[str, Any] = {}
    """While sending: the arguments of the signal that told of the change."""

    @classmethod
    def group_names(cls, instance: Any) -> Iterable[str]:
        """Return the names of the groups that are to know of `instance`.

        A group that an instance enters is told of a create, one that it leaves of a delete.
        """
        del instance
        return ()

    @classmethod
    def encode(cls, stream: Any, payload: Any) -> dict[str, Any]:
        """Return the message that sends `payload` on `stream`."""
        raise NotImplementedError

    def serialize(self, instance: Any, action: str) -> Any:
        """Return the payload that tells of `action`; an empty one is not sent."""
        raise NotImplementedError

    def send_messages(self, instance: Any, group_names: Iterable[str], action: str) -> None:
        """Tell the groups of `action`, after the transaction has been committed."""
        names = sorted(group_names)
        if not names:
            return
        payload = self.serialize(instance, action)
        if not payload:
            return
        message = self.encode(self.stream, payload)

        def tell() -> None:
            try:
                # In a consumer it is held: it would fail with all that the consumer does.
                limit = channel_layers[self.layer_alias].message_size
                encode_message(message, names[0], limit)
                for name in names:
                    Group(name, self.layer_alias).send(message)
            except BuswayError as error:
                # The change is made, and its maker has done nothing wrong.
                logger.error(  # noqa: TRY400
                    "%s could not tell %s of a change: %s",
                    type(self).__qualname__,
                    ", ".join(names),
                    error,
                )

        transaction.on_commit(tell, using=self.signal_kwargs.get("using", instance._state.db))

    @classmethod
    def pre_save_receiver(cls, instance: models.Model, *, raw: bool, using: str, **_: Any) -> None:
        """Remember the groups of what is stored now."""
        if not raw:
            before = stored(instance, using)
            remember(instance, cls, frozenset() if before is None else cls._names(before))

    @classmethod
    def post_save_receiver(
        cls, instance: models.Model, *, created: bool, raw: bool = False, **kwargs: Any
    ) -> None:
        """Tell of a create or an update."""
        if raw:
            return
        before: Names | None = recall(instance, cls)
        is_partial = kwargs.get("update_fields") is not None
        saved = current(instance, kwargs.get("using"), is_partial=is_partial)
        after = cls._names(saved)
        if created:
            before = frozenset()
        elif before is None:
            before = after
        kwargs |= {"created": created, "raw": raw}
        cls.changed(saved, before, after, **kwargs)

    @classmethod
    def pre_delete_receiver(
        cls, instance: models.Model, *, using: str | None = None, **_: Any
    ) -> None:
        """Remember what is about to go, and its groups."""
        going = current(instance, using)
        remember(instance, cls, (going, cls._names(going)))

    @classmethod
    def post_delete_receiver(cls, instance: models.Model, **kwargs: Any) -> None:
        """Tell of a delete."""
        gone, before = recall(instance, cls) or (instance, cls._names(instance))
        cls.changed(gone, before, frozenset(), **kwargs)

    @classmethod
    def changed(
        cls,
        instance: models.Model,
        before: Names,
        after: Names,
        *,
        is_update: bool = True,
        **kwargs: Any,
    ) -> None:
        """Tell the groups of an instance that was in `before`, and is now in `after`.

        Those in both are told of an update if it `is_update`. `kwargs` are the signal's.
        """
        binding = cls()
        binding.signal_kwargs = kwargs
        binding.send_messages(instance, before - after, DELETE)
        if is_update:
            binding.send_messages(instance, before & after, UPDATE)
        binding.send_messages(instance, after - before, CREATE)

    @classmethod
    def _names(cls, instance: models.Model) -> Names:
        names = cls.group_names(instance)
        if isinstance(names, str):
            raise UsageError(
                f"{cls.__qualname__}.group_names() returned {names!r}; expected a list of names"
            )
        found = frozenset(names)
        for name in found:
            check_group(name)
        return found
