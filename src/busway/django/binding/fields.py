"""The fields of a model that a binding sends and takes."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.encoding import is_protected_type

from busway.bus.errors import ConfigurationError

Field: TypeAlias = "models.Field[Any, Any]"
Model = type[models.Model]

ALL = "__all__"
"""In the place of names: every field."""


def check_choice(owner: str, fields: object, exclude: object) -> None:
    """Raise `ConfigurationError` unless exactly one of `fields` and `exclude` lists names."""
    if (fields is None) is (exclude is None):
        found = "neither" if fields is None else "both"
        raise ConfigurationError(
            f"{owner} has {found} of fields and exclude; set one of them: "
            'fields = ["__all__"] for everything, or the names of what clients may see'
        )
    for option, given in (("fields", fields), ("exclude", exclude)):
        if (
            given is not None
            and not _is_list_of_names(given)
            and (option, given) != ("fields", ALL)
        ):
            raise ConfigurationError(f"{owner}.{option} is {given!r}; expected a list of names")


def chosen(
    owner: str, model: Model, fields: Sequence[str] | str | None, exclude: Sequence[str] | None
) -> dict[str, Field]:
    """Return the fields of `model` that a binding is about, by name, without the primary key.

    Those of parent models are among them. Raises `ConfigurationError` for names of no field.
    """
    meta = model._meta
    known: dict[str, Field] = {}
    keys = {"pk"}
    for field in (*meta.concrete_fields, *meta.many_to_many):
        if field.primary_key or (field.remote_field and field.remote_field.parent_link):
            keys.add(field.name)
        else:
            known[field.name] = field
    names = {fields} if isinstance(fields, str) else {*(fields or ()), *(exclude or ())}
    unknown = sorted(names - known.keys() - keys - {ALL})
    if unknown:
        raise ConfigurationError(
            f"{owner} names {unknown[0]!r}, which is no field of {meta.label}; "
            f"it has {', '.join(known)}"
        )
    if exclude is not None:
        return {name: field for name, field in known.items() if name not in names}
    return {name: field for name, field in known.items() if name in names or ALL in names}


def value_of(instance: models.Model, field: Field) -> Any:
    """Return the value that `instance` has, as JSON can hold it: Django's encoder, that is."""
    if is_many(field):
        related = getattr(instance, field.name).values_list("pk", flat=True)
        return [pk if _is_plain(pk) else str(pk) for pk in related]
    value = field.value_from_object(instance)
    return value if _is_plain(value) else field.value_to_string(instance)


def is_many(field: Field) -> bool:
    """Tell whether it is a many-to-many relation."""
    return isinstance(field, models.ManyToManyField)


def is_required_many(field: Field) -> bool:
    """Tell whether it is a many-to-many relation that has to have something."""
    return is_many(field) and not field.blank


def writable(fields: Mapping[str, Field]) -> dict[str, Field]:
    """Return those that clients may set: not files, nor what `editable=False` or Django sets."""
    return {
        name: field
        for name, field in fields.items()
        if field.editable
        and not isinstance(field, models.FileField)
        and not getattr(field, "generated", False)
    }


def parse(field: Field, value: Any) -> Any:
    """Return `value`, which a client sent, as `field` holds it.

    For a relation that is a primary key, or a list of them. Raises `ValidationError`.
    """
    try:
        if _has_nul(value):
            raise ValidationError("NUL characters are not allowed")  # noqa: TRY301
        parsed = _related(field, value) if is_many(field) else field.to_python(value)
        if parsed is None and not field.null:
            # A field that may be blank is not cleaned when it is: the database would refuse it.
            raise ValidationError("null is not allowed")  # noqa: TRY301
    except ValidationError as error:
        raise ValidationError({field.name: error}) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ValidationError({field.name: f"this is no value for it: {error}"}) from None
    return parsed


def _is_plain(value: Any) -> bool:
    """Tell whether Django's encoder writes `value` itself, as numbers and dates."""
    return is_protected_type(value)


def _has_nul(value: Any) -> bool:
    """Tell whether JSON has a NUL character anywhere: PostgreSQL stores none."""
    waiting = [value]
    while waiting:  # not recursive: a client decides how deep it is
        match waiting.pop():
            case str(text) if "\0" in text:
                return True
            case list(items):
                waiting += items
            case dict(items):
                waiting += (*items, *items.values())
    return False


def _related(field: Any, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValidationError("expected a list of primary keys")
    if not value and not field.blank:
        raise ValidationError("expected at least one primary key")
    target = field.related_model
    pks = {target._meta.pk.to_python(pk) for pk in value}
    rows = target._default_manager.filter(pk__in=pks)
    rows = rows.complex_filter(field.get_limit_choices_to())
    found = {*rows.values_list("pk", flat=True)}  # a limit that joins has some twice
    if len(found) < len(pks):
        raise ValidationError("some of these are not there to choose from")
    return [*found]


def _is_list_of_names(given: object) -> bool:
    return isinstance(given, list | tuple | set | frozenset) and all(
        isinstance(name, str) for name in given
    )
