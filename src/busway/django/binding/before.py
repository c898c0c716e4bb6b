"""What is remembered of an instance between the signals before and after a change."""

from typing import Any

from django.db import DEFAULT_DB_ALIAS, models

_KEY = "_busway_bindings"


def remember(instance: models.Model, key: object, value: Any) -> None:
    """Keep `value` until `recall`. Changes within changes are fine: it is a stack."""
    vars(instance).setdefault(_KEY, {}).setdefault(key, []).append(value)


def recall(instance: models.Model, key: object) -> Any:
    """Return what was remembered last, and forget it.

    None: nothing was. Some packages send the signal after a change, but not the one before.
    """
    kept = vars(instance).get(_KEY, {})
    if key not in kept:
        return None
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


def current(instance: models.Model, using: str | None, *, is_partial: bool = False) -> models.Model:
    """Return `instance` with the values that are stored: itself, if it has them.

    It may not have them if it was saved only in part (`is_partial`), or if the database computes
    some: an expression is no value. It is returned as well when it is not there to be read.
    """
    values = (vars(instance).get(field.attname) for field in instance._meta.concrete_fields)
    if not is_partial and not any(hasattr(value, "resolve_expression") for value in values):
        return instance
    return stored(instance, using or instance._state.db or DEFAULT_DB_ALIAS) or instance
