"""Validation that goes on after a mistake: every mistake of a file at once, and the sound parts still usable."""

from __future__ import annotations

import types
from functools import cache
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from .fields import Blank, kind
from .mistakes import Mistakes, show, suggest
from .mistakes import Path as Where
from .part import Part
from .source import Source

P = TypeVar("P", bound=Part)
_NONE = object()


@cache
def _adapter(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    info = model.model_fields[name]
    metadata = [item for item in info.metadata if not isinstance(item, Blank)]
    annotation: Any = info.annotation
    return TypeAdapter(Annotated[(annotation, *metadata)] if metadata else annotation)


@cache
def _blank(model: type[BaseModel], name: str) -> Any:
    for item in model.model_fields[name].metadata:
        if isinstance(item, Blank):
            return item.value
    return _NONE


def _part_in(annotation: Any) -> tuple[str, type[Part] | None, Any]:
    """How a field holds parts: ("one"|"list"|"dict"|"", the part's model, type of the dict's keys)."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return "one", annotation, None
    if origin is Annotated:
        return _part_in(get_args(annotation)[0])
    arguments = get_args(annotation)
    inner = arguments[-1] if arguments else None
    if origin in (list, dict) and isinstance(inner, type) and issubclass(inner, Part):
        return ("list" if origin is list else "dict"), inner, arguments[0]
    if origin in (Union, types.UnionType):
        return "", None, None
    return "", None, None


def place(part: Part, where: Where) -> None:
    """Tell a part and all parts in it where they stand."""
    part._where = where  # noqa: SLF001 - the models' one private thing, and this its one writer
    for name in type(part).model_fields:
        value = getattr(part, name, None)
        if isinstance(value, Part):
            place(value, (*where, name))
        elif isinstance(value, list) and value and isinstance(value[0], Part):
            for index, item in enumerate(value):
                place(item, (*where, name, index))
        elif isinstance(value, dict) and value and isinstance(next(iter(value.values())), Part):
            for key, item in value.items():
                place(item, (*where, name, key))


class Tolerant:
    """Reads one file's data into models and puts what is wrong into `mistakes`."""

    def __init__(self, source: Source, mistakes: Mistakes) -> None:
        self.source = source
        self.mistakes = mistakes

    def _say(
        self, where: Where, value: object, message: str, cure: str, code: str, *, key: bool = False
    ) -> None:
        self.mistakes.add(self.source.file, self.source.line_of(where, key=key), value, message, cure, code)

    def read(self, model: type[P], data: Any, where: Where = ()) -> P | None:
        """The part, or None if something it cannot do without is missing or wrong."""
        if not isinstance(data, dict):
            example = ", ".join(model.model_fields)[:60]
            message = f"{_place(where)} must be a mapping, not {kind(data)}."
            self._say(where, data, message, f"Write key: value lines ({example}).", "wrong-type")
            return None
        try:
            part = model.model_validate(data)
        except ValidationError:
            return self._by_field(model, data, where)
        place(part, where)
        return part

    def _by_field(self, model: type[P], data: dict[str, Any], where: Where) -> P | None:
        known = model.model_fields
        for name in data:
            if name not in known:
                self._say(
                    (*where, name),
                    name,
                    f'{_place(where)} has no key "{name}".',
                    suggest(name, known),
                    "unknown-key",
                    key=True,
                )
        values: dict[str, Any] = {}
        whole = True
        for name, info in known.items():
            value = self._field(model, name, info, data.get(name), name in data, where)
            if value is _NONE:
                value = _blank(model, name)
                if value is _NONE and not info.is_required():
                    continue
            if value is _NONE:
                whole = False
            else:
                values[name] = value
        if not whole:
            return None
        part = cast("P", model.model_construct(**values))
        place(part, where)
        return part

    def _field(
        self, model: type[Part], name: str, info: FieldInfo, value: Any, written: bool, where: Where
    ) -> Any:
        """The value of one field; _NONE where it is left out or wrong."""
        here = (*where, name)
        if value is None:
            if info.is_required():
                said = f"{_place(where)} lacks {name}" + (": it is empty." if written else ".")
                cure = f"Add `{name}:`" + (f" ({info.description})." if info.description else ".")
                self._say(here if written else where, name, said, cure, "missing-key", key=written)
            return _NONE
        if value == "" and info.default == "":
            return _NONE  # Written out, and still "not set".
        shape, part, key_type = _part_in(info.annotation)
        if shape == "one" and part is not None:
            read = self.read(part, value, here)
            return _NONE if read is None else read
        if shape == "list" and part is not None:
            if not isinstance(value, list):
                message = f"{_place(here)} must be a list, not {kind(value)}."
                self._say(here, value, message, "Start each item with `- `.", "wrong-type")
                return _NONE
            items = [self.read(part, item, (*here, index)) for index, item in enumerate(value)]
            return [item for item in items if item is not None]
        if shape == "dict" and part is not None:
            if not isinstance(value, dict):
                message = f"{_place(here)} must be a mapping of names, not {kind(value)}."
                self._say(here, value, message, "Write `name: {…}` lines.", "wrong-type")
                return _NONE
            return self._named_parts(part, key_type, value, here)
        try:
            return _adapter(model, name).validate_python(value)
        except ValidationError as error:
            self._translate(error, value, here)
            return _NONE

    def _named_parts(
        self, part: type[Part], key_type: Any, value: dict[str, Any], here: Where
    ) -> dict[str, Part]:
        named: dict[str, Part] = {}
        adapter: TypeAdapter[Any] = TypeAdapter(key_type)
        for key, item in value.items():
            try:
                adapter.validate_python(key)
            except ValidationError as error:
                self._translate(error, key, (*here, key), key=True)
                continue
            read = self.read(part, item if item is not None else {}, (*here, key))
            if read is not None:
                named[key] = read
        return named

    def _translate(self, error: ValidationError, value: Any, here: Where, *, key: bool = False) -> None:
        for one in error.errors(include_url=False):
            where = (*here, *(step for step in one["loc"] if step != "[key]"))
            shown = one.get("input", value)
            context = one.get("ctx") or {}
            if context.get("ours"):
                self._say(where, shown, context["message"], context["cure"], one["type"], key=key)
                continue
            message, cure, code = _sentence(one["type"], shown, context, _place(where))
            self._say(where, shown, message, cure, code, key=key or "[key]" in one["loc"])


def _place(where: Where) -> str:
    """A path as people say it: ``compute[3].address``; the top is "the file"."""
    text = ""
    for step in where:
        text += f"[{step + 1}]" if isinstance(step, int) else (f".{step}" if text else str(step))
    return text or "The file"


def _sentence(error: str, value: Any, context: dict[str, Any], what: str) -> tuple[str, str, str]:
    """Pydantic's own errors in our words: (message, cure, code)."""
    given = f'"{show(value)}"' if isinstance(value, (str, int)) else kind(value)
    if error.startswith(("int", "float")):
        return f"{what} must be a whole number, not {given}.", "Write digits only.", "wrong-type"
    if error.startswith("bool"):
        return f"{what} must be true or false, not {given}.", "Write true or false.", "wrong-type"
    if error.startswith("list"):
        return (
            f"{what} must be a list, not {kind(value)}.",
            "Write [a, b], or one `- item` a line.",
            "wrong-type",
        )
    if error.startswith(("dict", "model")):
        return f"{what} must be a mapping, not {kind(value)}.", "Write key: value lines.", "wrong-type"
    if error.startswith("string"):
        return f"{what} must be text, not {kind(value)}.", "Write one word, quoted if need be.", "wrong-type"
    if error in ("greater_than_equal", "greater_than"):
        least = context.get("ge", context.get("gt"))
        return (
            f"{what} is {show(value)}, less than the least possible, {least}.",
            f"Write {least} or more.",
            "out-of-range",
        )
    if error in ("less_than_equal", "less_than"):
        most = context.get("le", context.get("lt"))
        return (
            f"{what} is {show(value)}, more than the most possible, {most}.",
            f"Write {most} or less.",
            "out-of-range",
        )
    return f"{what} has a value that cannot be: {given}.", "See the reference of this key.", "bad-value"
