"""A model bound to something that can be sent to and received from."""

from collections.abc import Sequence
from typing import Any, ClassVar

from busway.django.binding import registry
from busway.django.binding.actions import CREATE, DELETE, UPDATE
from busway.django.binding.fields import Field, check_choice, chosen
from busway.django.binding.inbound import Inbound
from busway.django.binding.outbound import Outbound

__all__ = ["CREATE", "DELETE", "UPDATE", "Binding"]


class Binding(Outbound, Inbound):
    """Binds a model. A subclass with a `model` listens to its signals once its class is made.

    Import such classes in every process that changes the model: in `AppConfig.ready`.
    """

    model: ClassVar[Any] = None
    """The model or its label, "app.Model"; None: the class is for others to inherit from."""
    fields: ClassVar[Sequence[str] | None] = None
    """Names of the fields that clients see and may set; `["__all__"]`: all."""
    exclude: ClassVar[Sequence[str] | None] = None
    """Instead of `fields`: names of those that they do not."""
    model_label: ClassVar[str] = ""
    """The label of the model in lower case, as in payloads."""
    data_fields: ClassVar[dict[str, Field]] = {}
    """The fields that result, by name; once the models are there."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check and register the class; raises `ConfigurationError`."""
        super().__init_subclass__(**kwargs)
        if cls.model is not None:
            check_choice(cls.__qualname__, cls.fields, cls.exclude)
            registry.register_when_ready(cls)

    @classmethod
    def prepare(cls) -> None:
        """Look up the model and its fields; raises `ConfigurationError`."""
        cls.model = registry.model_of(cls.__qualname__, cls.model)
        cls.model_label = cls.model._meta.label_lower
        cls.data_fields = chosen(cls.__qualname__, cls.model, cls.fields, cls.exclude)

    @classmethod
    def register(cls) -> None:
        """Listen to the signals of the model. Nothing happens when it does so already."""
        registry.register(cls)

    @classmethod
    def unregister(cls) -> None:
        """Listen to the signals no more: for tests that define bindings of their own."""
        registry.unregister(cls)
