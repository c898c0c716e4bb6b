"""Changes of a many-to-many relation: they change the instances on one side."""

from collections.abc import Iterable
from typing import Any

from django.db import models

from busway.django.binding.before import current, recall, remember
from busway.django.binding.outbound import Outbound


class RelationReceiver:
    """Tells of changes of one many-to-many field."""

    def __init__(
        self, binding: type[Outbound], model: type[models.Model], field: Any, *, is_sent: bool
    ) -> None:
        """Tell through `binding` of instances of `model`, of an update only if it `is_sent`."""
        self._binding = binding
        self._model = model
        self._field = field
        self._is_sent = is_sent

    def __call__(self, *, instance: models.Model, action: str, **kwargs: Any) -> None:
        """Receive `m2m_changed`."""
        if action.startswith("pre_"):
            affected = self._affected(instance, action, **kwargs)
            names = {one.pk: self._binding._names(one) for one in affected}  # noqa: SLF001
            remember(instance, self, names)
            return
        before: dict[Any, frozenset[str]] = recall(instance, self) or {}
        for one in self._by_pk(instance, before, kwargs):
            after = self._binding._names(one)  # noqa: SLF001
            self._binding.changed(
                one, before[one.pk], after, is_update=self._is_sent, action=action, **kwargs
            )

    def _affected(
        self, instance: models.Model, action: str, *, reverse: bool, using: str, **kwargs: Any
    ) -> Iterable[models.Model]:
        if not reverse:
            return [current(instance, using)] if isinstance(instance, self._model) else []
        rows = self._model._base_manager.using(using)
        if action == "pre_clear":
            return rows.filter(**{self._field.name: instance})
        return rows.filter(pk__in=kwargs["pk_set"])

    def _by_pk(
        self, instance: models.Model, pks: Iterable[Any], kwargs: dict[str, Any]
    ) -> Iterable[models.Model]:
        if not kwargs["reverse"]:
            return [current(instance, kwargs["using"])] if instance.pk in pks else []
        manager = self._model._base_manager
        return manager.using(kwargs["using"]).filter(pk__in=list(pks))
