"""Models bound to streams of WebSockets; see `busway.django.generic.demultiplexer`.

The payload is `{"action": …, "pk": …, "data": {…}, "model": …}`, in both directions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from json import JSONEncoder
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, models, router, transaction

from busway.app.frames import decode_json
from busway.app.message import Message
from busway.bus.errors import ConfigurationError
from busway.django.binding.actions import DELETE, UPDATE
from busway.django.binding.base import Binding
from busway.django.binding.fields import is_required_many, parse, value_of, writable


class WebsocketBinding(Binding):
    """Binds a model to a stream."""

    encoder: ClassVar[JSONEncoder] = DjangoJSONEncoder(allow_nan=False, separators=(",", ":"))
    """Writes what is sent."""

    @classmethod
    def prepare(cls) -> None:
        """Look up the model and its fields; raises `ConfigurationError`."""
        super().prepare()
        if not isinstance(cls.stream, str):
            raise ConfigurationError(
                f"{cls.__qualname__}.stream is {cls.stream!r}; expected the name of a stream"
            )

    @classmethod
    def encode(cls, stream: str, payload: Any) -> dict[str, Any]:
        """Return the message that sends `payload` on `stream`."""
        return {"text": cls.encoder.encode({"stream": stream, "payload": payload})}

    def serialize(self, instance: Any, action: str) -> Any:
        """Return the payload that tells of `action`; an empty one is not sent."""
        return {
            "action": action,
            # Not `instance.pk`: a child of several parents has the key of the first.
            "pk": getattr(instance, self.model._meta.pk.attname),
            "data": self.serialize_data(instance),
            "model": self.model_label,
        }

    def serialize_data(self, instance: Any) -> dict[str, Any]:
        """Return the values of the fields that clients see."""
        return {name: value_of(instance, field) for name, field in self.data_fields.items()}

    @classmethod
    def trigger_inbound(cls, message: Message, **kwargs: Any) -> None:
        """Carry out what a frame asks for. That sockets come and go is of no interest."""
        if message.channel_name not in ("websocket.connect", "websocket.disconnect"):
            super().trigger_inbound(message, **kwargs)

    def deserialize(self, message: Message) -> tuple[str, Any, dict[str, Any]]:
        """Return the action, the primary key as the model has it, and the data of a frame.

        The key is None unless the action is an update or a delete. Raises `ValidationError` when
        the frame is of another form.
        """
        try:
            body = decode_json(message.get("text") or "")
        except ValueError as error:
            raise ValidationError(f"expected JSON: {error}") from None
        action = body.get("action") if isinstance(body, dict) else None
        if not isinstance(action, str):
            raise ValidationError('expected {"action": …, "pk": …, "data": {…}}')
        data = body.get("data")
        if not isinstance(data, dict | None):
            raise ValidationError("expected the data as an object of field → value")
        pk = self._parse_pk(body.get("pk")) if action in (UPDATE, DELETE) else None
        return action, pk, data or {}

    def create(self, data: Any) -> None:
        """Create an instance of what `data` has for the fields that clients may set.

        Raises `ValidationError`: it is cleaned as a form would do it.
        """
        self._save(self.model(), data, {*writable(self.data_fields)})

    def update(self, pk: Any, data: Any) -> None:
        """Change what `data` has for the fields that clients may set.

        Raises `ValidationError`, and `ObjectDoesNotExist` when there is no such instance.
        """
        self._save(self.model._default_manager.get(pk=pk), data, {*data})

    def delete(self, pk: Any) -> None:
        """Delete an instance, if it is there. Raises `ValidationError` when it is protected."""
        with _no_conflict(self.model):
            self.model._default_manager.filter(pk=pk).delete()

    def _parse_pk(self, pk: Any) -> Any:
        if pk is None:
            raise ValidationError("expected the 'pk' of an instance")
        return parse(self.model._meta.pk, pk)

    def _save(self, instance: models.Model, data: dict[str, Any], checked: set[str]) -> None:
        fields = writable(self.data_fields)
        # A relation to many is no column: nothing but this finds that a required one is not given.
        for name in checked & fields.keys():
            if name not in data and is_required_many(fields[name]):
                raise ValidationError({name: "expected a list of primary keys"})
        values = {name: parse(field, data[name]) for name, field in fields.items() if name in data}
        many = {name: values.pop(name) for name in [*values] if fields[name].many_to_many}
        for name, value in values.items():
            setattr(instance, fields[name].attname, value)
        checked &= fields.keys()
        _clean(instance, {field.name for field in instance._meta.fields} - checked)
        with _no_conflict(type(instance), instance=instance):
            instance.save()
            for name, pks in many.items():
                getattr(instance, name).set(pks)


def _clean(instance: models.Model, exclude: set[str]) -> None:
    """Clean `instance` but for `exclude`: names of fields. Raises `ValidationError`."""
    if instance._state.adding:
        instance.full_clean(exclude)
        return
    instance.full_clean(exclude, validate_unique=False, validate_constraints=False)
    # A field that is changed has to fit those that are not, and they are stored as they are here.
    instance.validate_unique()
    instance.validate_constraints()


@contextmanager
def _no_conflict(model: type[models.Model], **hints: Any) -> Iterator[None]:
    """Change the database of `model` in a transaction; raises `ValidationError` for conflicts."""
    try:
        with transaction.atomic(router.db_for_write(model, **hints)):
            yield
    except IntegrityError as error:
        raise ValidationError("this conflicts with what is stored") from error


class WebsocketBindingWithMembers(WebsocketBinding):
    """Sends attributes, properties and methods of instances besides their fields."""

    send_members: ClassVar[Sequence[str]] = ()
    """Their names; methods are called without arguments. "author.name" becomes "author__name"."""

    def serialize_data(self, instance: Any) -> dict[str, Any]:
        """Return the values of the fields and members that clients see."""
        data = super().serialize_data(instance)
        for path in self.send_members:
            member: Any = instance
            for name in path.split("."):
                member = getattr(member, name)
            data[path.replace(".", "__")] = _called(member)
        return data


def _called(member: Callable[[], Any] | Any) -> Any:
    return member() if callable(member) else member
