"""Which bindings listen to the signals of their models."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import models
from django.db.models import signals

from busway.bus.errors import ConfigurationError
from busway.django.binding.related import RelationReceiver

if TYPE_CHECKING:
    from busway.django.binding.base import Binding

Connection = tuple[Any, Callable[..., Any], Any]
"""A signal, its receiver and its sender."""

_waiting: "list[type[Binding]]" = []
_connected: "dict[type[Binding], list[Connection]]" = {}


def register_when_ready(binding: "type[Binding]") -> None:
    """Register `binding` now, or when all models are there."""
    if apps.models_ready:
        register(binding)
    else:
        _waiting.append(binding)


def register_waiting() -> None:
    """Register what waits for the models: they are there now."""
    while _waiting:
        register(_waiting.pop(0))


def register(binding: "type[Binding]") -> None:
    """Connect `binding` to the signals of its model, once.

    Raises `ConfigurationError` when it names no model, or no fields of it.
    """
    if binding in _connected:
        return
    binding.prepare()
    _connected[binding] = list(_connections(binding, binding.model))
    for signal, receiver, sender in _connected[binding]:
        signal.connect(receiver, sender=sender, weak=False, dispatch_uid=(binding, receiver))


def unregister(binding: "type[Binding]") -> None:
    """Let `binding` listen no more; nothing happens when it does not."""
    for signal, receiver, sender in _connected.pop(binding, ()):
        signal.disconnect(sender=sender, dispatch_uid=(binding, receiver))


def model_of(owner: str, given: Any) -> type[models.Model]:
    """Return a model, given itself or its label; raises `ConfigurationError`."""
    try:
        found = apps.get_model(given) if isinstance(given, str) else given
    except (LookupError, ValueError) as error:
        raise ConfigurationError(f"{owner}.model is {given!r}: {error}") from None
    is_model = isinstance(found, type) and issubclass(found, models.Model)
    if not is_model or found._meta.abstract:
        raise ConfigurationError(
            f"{owner}.model is {given!r}; expected a model that is not abstract, "
            'or its label, "app.Model"'
        )
    model: type[models.Model] = found
    return model


def _connections(binding: "type[Binding]", model: type[models.Model]) -> Iterator[Connection]:
    for sender in dict.fromkeys(_family(model)):
        # An instance of a child model is saved as one, and is one of its parent's.
        yield signals.pre_save, binding.pre_save_receiver, sender
        yield signals.post_save, binding.post_save_receiver, sender
        # Its row in the parent's table is deleted as one of the parent's.
        if sender._meta.concrete_model is model._meta.concrete_model:
            yield signals.pre_delete, binding.pre_delete_receiver, sender
            yield signals.post_delete, binding.post_delete_receiver, sender
    for field in model._meta.many_to_many:
        receiver = RelationReceiver(
            binding, model, field, is_sent=field.name in binding.data_fields
        )
        yield signals.m2m_changed, receiver, field.remote_field.through


def _family(model: type[models.Model]) -> Iterator[type[models.Model]]:
    """Yield `model` and its descendants that are not abstract."""
    if not model._meta.abstract:
        yield model
    for child in model.__subclasses__():
        yield from _family(child)
