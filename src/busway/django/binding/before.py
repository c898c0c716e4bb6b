"""What is remembered of an instance between the signals before and after a change."""

from typing import Any

from django.db import models

_KEY = "_busway_bindings"


def remember(instance: models.Model, key: object, value: Any) -> None:
    """Keep `value` until `recall`. Changes within changes are fine: it is a stack."""
    vars(instance).setdefault(_KEY, {}).setdefault(key, []).append(value)


def recall(instance: models.Model, key: object) -> Any:
    """Return what was remembered last, and forget it."""
    kept = vars(instance)[_KEY]
    value = kept[key].pop()
    if not kept[key]:
        del kept[key]
    if not kept:
        del vars(instance)[_KEY]
    return value


def stored(instance: models.Model, using: str) -> models.Model | None:
    """Return `instance` as the database has it; None when it cannot be there yet."""
    state, pk = instance._state, instance._meta.pk
    # As `Model.save` has it: a new instance with a default key is an INSERT.
    if instance.pk is None or (state.adding and (pk.has_default() or pk.has_db_default())):
        return None
    manager = type(instance)._base_manager
    return manager.using(using).filter(pk=instance.pk).first()
