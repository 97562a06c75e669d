"""Base class of all settings, and `Setting`, from which interfaces derive their options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from .errors import InvalidInput

_Model = TypeVar("_Model", bound="BaseSettings")
_FINITE = ConfigDict(allow_inf_nan=False)


class BaseSettings(BaseModel):
    """Base of all settings: frozen, rejects unknown names, reports errors in one sentence."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        defer_build=True,  # --help needs no validators
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InvalidInput(_sentence(type(self), error)) from None

    def flat(self) -> dict[str, Any]:
        """Return all values by name, with nested settings flattened into one dictionary."""
        values: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            values |= value.flat() if isinstance(value, BaseSettings) else {name: value}
        return values

    @classmethod
    def from_flat(cls: type[_Model], values: Mapping[str, Any]) -> _Model:
        """Create settings from the result of `flat`; missing names keep their defaults.

        Args:
            values: values by name. Strings are converted; names of other settings are ignored.

        Raises:
            InvalidInput: if a value is out of range.
        """
        own: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings):
                own[name] = field.annotation.from_flat(values)
            elif name in values:
                own[name] = values[name]
        return cls(**own)


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting, from which interfaces derive their options.

    Attributes:
        name: unique among all settings.
        kind: bool, int, float, str or Path.
        default: the default value; None means the model's own value, or "off".
        low, high: inclusive bounds of a number, of type `kind`; None if unbounded.
        choices: allowed words; empty if every value is allowed.
        repeats: whether the setting is a list; kind and choices are those of its members.
        help: one sentence without a full stop.
        annotation: type with bounds, for pydantic; without None.
    """

    name: str
    kind: type
    default: Any
    low: Any
    high: Any
    choices: tuple[str, ...]
    repeats: bool
    help: str
    annotation: Any

    @property
    def requirement(self) -> str:
        """Describe the valid values, as in "must be true or false"."""
        if self.choices:
            return f"must be one of {', '.join(self.choices)}"
        if self.kind is bool:
            return "must be true or false"
        if self.kind not in (int, float):
            return f"must be {self.help}"
        noun = "a whole number" if self.kind is int else "a number"
        if self.low is None or self.high is None:
            return f"must be {noun}" + ("" if self.low is None else f" of at least {self.low:,}")
        return f"must be {noun} between {self.low:,} and {self.high:,}"

    def parse(self, text: str) -> Any:
        """Convert a string to a value.

        Raises:
            InvalidInput: if the string is invalid; the message begins with "must be".
        """
        try:
            return TypeAdapter(self.annotation, config=_FINITE).validate_python(text)
        except ValidationError:
            raise InvalidInput(f"{self.requirement}, got '{text}'") from None


def declared(*models: type[BaseSettings]) -> dict[str, Setting]:
    """Return the declarations of settings classes by name, including nested settings."""
    return {setting.name: setting for model in models for setting in _declared(model)}


def _declared(model: type[BaseSettings]) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings):
            yield from _declared(field.annotation)
        else:
            yield _setting(name, field)


def _setting(name: str, field: FieldInfo) -> Setting:
    kind = field.annotation
    if get_origin(kind) in (Union, UnionType):  # drop None: interfaces omit the option instead
        kind = next(one for one in get_args(kind) if one is not NoneType)
    if repeats := get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    low, high = (
        next((getattr(bound, key) for bound in field.metadata if isinstance(bound, cls)), None)
        for cls, key in ((Ge, "ge"), (Le, "le"))
    )
    return Setting(
        name,
        str if choices else cast(type, kind),
        field.get_default(call_default_factory=False),
        low,
        high,
        choices,
        repeats,
        field.description or "",
        Annotated[kind, field],
    )


def _sentence(model: type[BaseSettings], error: ValidationError) -> str:
    """Describe the first validation error in one sentence."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # raised by a validator or by nested settings
        return str(first["ctx"]["error"])
    name = str(first["loc"][0])
    known = declared(model)
    if first["type"] == "extra_forbidden":
        return f"There is no setting '{name}': it must be one of {', '.join(known)}."
    wanted = known[name].requirement if name in known else f"is invalid: {first['msg']}"
    return f"{name} {wanted}, got {first['input']!r}."
