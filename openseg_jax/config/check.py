"""The check at the entrance: from a `ConfigDict` or nested mappings to a `Config`, or to all that is wrong at once."""

import contextlib
import dataclasses
import difflib
import math
import numbers
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from openseg_jax import models
from openseg_jax.config.options import options_of
from openseg_jax.config.rules import contradictions
from openseg_jax.config.schema import LARGEST_SIDE, Config, ModelSettings, Setting
from openseg_jax.errors import InputError
from openseg_jax.models.registry import as_tuples
from openseg_jax.text import short

_NAME = re.compile(r"[a-z]+(?:\.[a-z_0-9]+)+")
_MOST_FAULTS = 20
_COUNTS = ("no", "one", "two", "three", "four", "five", "six")


def typed(config: ConfigDict | Mapping[str, Any] | Config) -> Config:
    """Checks a config and makes it the typed object that the package takes.

    Fields that are left out get their defaults. Lists become tuples, and whole numbers are taken for floats.

    Args:
        config: The `ConfigDict` of a recipe, nested mappings of the same form, or a `Config`, which stays as it is.

    Raises:
        InputError: With all that is wrong: the field, the value, and what is allowed.
    """
    result, faults = examine(config)
    refuse(faults)
    return result


def refuse(faults: Sequence[str]) -> None:
    """Raises InputError with these faults, of very many the first ones, if there are any."""
    shown = [*faults[:_MOST_FAULTS], *[f"and {len(faults) - _MOST_FAULTS} more"] * (len(faults) > _MOST_FAULTS)]
    if shown:
        raise InputError("; ".join(shown))


def examine(config: ConfigDict | Mapping[str, Any] | Config) -> tuple[Config, list[str]]:
    """Returns the config, with defaults in place of what is wrong, and a sentence on each fault."""
    if isinstance(config, (ConfigDict, Config)):
        try:
            config = config.to_dict()
        except (RecursionError, ValueError) as error:  # a section that holds itself, a placeholder without a value
            return Config(), [f"a config is nested dictionaries, found {type(error).__name__}: {short(str(error))}"]
    if not isinstance(config, Mapping):
        return Config(), [f"a config is a ConfigDict or nested dictionaries, found {short(config)}"]
    wrong: dict[str, str] = {}
    result = _section(config, Config, "", wrong)
    if not _is_wrong("model.name", wrong) and not _is_wrong("model.backbone", wrong):
        model = dataclasses.replace(result.model, options=_options(result.model, wrong))
        result = dataclasses.replace(result, model=model)
    faults = [*wrong.values()]
    for text in contradictions(result):
        # Where a field is wrong itself, what its default contradicts is none of the user's.
        if not any(_is_wrong(name, wrong) for name in _NAME.findall(text)):
            faults.append(text)
    return result, faults


def _is_wrong(name: str, wrong: Iterable[str]) -> bool:
    return any(name == other or name.startswith(f"{other}.") for other in wrong)


def _section(values: Mapping[str, Any], kind: type, prefix: str, wrong: dict[str, str]):
    hints = hints_of(kind)
    for name in values:
        if name not in hints:
            path = f"{prefix}{_as_word(name)}"
            wrong[path] = unknown(path, str(name), hints)
    found = {}
    for field in dataclasses.fields(kind):
        if field.name not in values:
            continue
        path, hint, value = f"{prefix}{field.name}", hints[field.name], values[field.name]
        setting, row = field.metadata.get("setting", Setting("")), _element(hint)
        try:
            if dataclasses.is_dataclass(hint):
                found[field.name] = _section(_wanted(value, isinstance(value, Mapping)), hint, f"{path}.", wrong)
            elif dataclasses.is_dataclass(row):
                _wanted(value, isinstance(value, (tuple, list)) and all(isinstance(x, Mapping) for x in value))
                found[field.name] = tuple(_section(x, row, f"{path}[{i}].", wrong) for i, x in enumerate(value))
            else:
                found[field.name] = convert(value, hint, setting)
        except ValueError:
            wrong[path] = f"{path} must be {describe(hint, setting)}, found {short(value)}{_meant(value, setting)}"
    return kind(**found)


def _options(model: ModelSettings, wrong: dict[str, str]) -> dict[str, Any]:
    """Returns the options with their types. Defaults of the model's own backbone may stay on another."""
    taken, defaults = options_of(model.name, model.backbone), models.default_options(model.name)
    found = {}
    for name, value in model.options.items():
        path, option = f"model.options.{_as_word(name)}", taken.get(name)
        if name in defaults and repr(as_tuples(value)) == repr(defaults[name]):
            found[name] = defaults[name]
        elif name in defaults and option is None:
            wrong[path] = f"{path} is no option of {model.name} on {model.backbone}, which has {', '.join(taken)}"
        elif option is None:
            wrong[path] = unknown(path, str(name), taken)
        else:
            try:
                found[name] = _wanted(convert(value, *option), value not in ((), []))
            except ValueError:
                wrong[path] = f"{path} must be {describe(*option)}, found {short(value)}"
    return found


def hints_of(kind: type) -> dict[str, Any]:
    """Returns the type of each field of a dataclass."""
    return {field.name: field.type for field in dataclasses.fields(kind)}


def _as_word(name: Any) -> str:
    return name if isinstance(name, str) and name.isidentifier() else short(name)


def _element(hint) -> Any:
    return (typing.get_args(hint) or (None,))[0]


def convert(value: Any, hint: Any, setting: Setting) -> Any:
    """Returns a value as the type that is wanted. Raises ValueError if it is another, or is not allowed."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            with contextlib.suppress(ValueError):
                return convert(value, option, setting)
        raise ValueError
    if origin is tuple:
        return _tuple(value, arguments, setting)
    if origin is not None:  # a mapping, whose entries are a rule's
        return dict(_wanted(value, isinstance(value, Mapping)))
    if hint is type(None):
        return _wanted(value, value is None)
    is_bool = isinstance(value, (bool, np.bool_))
    if hint is bool:
        return bool(_wanted(value, is_bool))
    if hint is str:
        _wanted(value, isinstance(value, str) and "\0" not in value)
        return str(_wanted(value, value in setting.choices if setting.choices else value or not setting.filled))
    _wanted(value, isinstance(value, numbers.Integral if hint is int else numbers.Real) and not is_bool)
    try:
        number = hint(value)
    except OverflowError:  # of a whole number as a float
        raise ValueError from None
    return _wanted(number, _is_within(number, setting) and _is_within(_on_device(number, setting), setting))


def _is_within(number: float, s: Setting) -> bool:
    is_high = (s.above is None or number > s.above) and (s.least is None or number >= s.least)
    is_low = (s.below is None or number < s.below) and (s.most is None or number <= s.most)
    return is_high and is_low and (isinstance(number, int) or math.isfinite(number))


def _on_device(number: float, setting: Setting) -> float:
    """Returns what becomes of a number there: 1e-60 is 0, 1e60 and 2**40 are infinite, and 0.999999999 is 1."""
    if isinstance(number, int):
        return number if setting.most is not None or abs(number) < 2**31 else math.inf
    with np.errstate(over="ignore"):
        rounded = np.float32(number)
    return float(rounded) if abs(rounded) >= np.finfo(np.float32).tiny else 0.0


def _tuple(value: Any, arguments: tuple, setting: Setting) -> tuple:
    _wanted(value, isinstance(value, (tuple, list)))
    if arguments[1:] == (...,):
        arguments = (arguments[0],) * len(value)
    _wanted(value, len(value) == len(arguments))
    found = tuple(convert(x, hint, setting) for x, hint in zip(value, arguments, strict=True))
    _wanted(value, setting.product is None or arguments[:1] != (int,) or math.prod(found) <= setting.product)
    _wanted(value, setting.ordered != "range" or [*found] == sorted(found))
    _wanted(value, setting.ordered != "rising" or [*found] == sorted({*found}))
    return found


def _wanted(value: Any, right: bool) -> Any:
    if not right:
        raise ValueError
    return value


def describe(hint: Any, setting: Setting) -> str:
    """Returns what is allowed for a field, as words that follow "must be"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return "a section of fields"
    if dataclasses.is_dataclass(_element(hint)):
        return f"dictionaries of {', '.join(hints_of(_element(hint)))}"
    if origin in (typing.Union, types.UnionType):
        others = [option for option in arguments if option not in (tuple[()], type(None))]
        return " or ".join([*(describe(option, setting) for option in others), "none"])
    if origin is tuple:
        noun = _plural(arguments[0], setting)
        count = "a tuple of" if arguments[1:] == (...,) else _COUNTS[len(arguments)]
        order = {"range": ", the smaller first", "rising": ", each larger than the one before"}.get(setting.ordered, "")
        return f"{count} {noun}{order}"
    if origin is not None:
        return "a dictionary"
    if hint is bool:
        return "True or False"
    if hint is str:
        return _quoted(setting) if setting.choices else "a string that is not empty" if setting.filled else "a string"
    return f"a {'whole ' * (hint is int)}number{_limits(setting)}"


def _plural(hint: Any, setting: Setting) -> str:
    if typing.get_origin(hint) is tuple:
        arguments = typing.get_args(hint)
        return f"{'pairs' if len(arguments) == 2 else 'tuples'} of {_plural(arguments[0], setting)}"
    if hint is str:
        return f"strings among {', '.join(setting.choices)}" if setting.choices else "strings"
    return f"{'whole ' * (hint is int)}numbers{_limits(setting)}"


def _limits(s: Setting) -> str:
    if s.least is not None and s.most is not None:
        return f" from {s.least} to {s.most}"
    named = (("above {}", s.above), ("of at least {}", s.least), ("below {}", s.below), ("of at most {}", s.most))
    parts = [text.format(limit) for text, limit in named if limit is not None]
    return f" {' and '.join(parts)}" if parts else ""


def _quoted(setting: Setting) -> str:
    *others, last = [f'"{choice}"' for choice in setting.choices]
    if len(others) > 20:
        return f"one of the {len(setting.choices)} names that `openseg models` lists"
    return f"{', '.join(others)} or {last}"


def _meant(value: Any, setting: Setting) -> str:
    for name in value if isinstance(value, (tuple, list)) else (value,):
        close = difflib.get_close_matches(name, setting.choices) if isinstance(name, str) else []
        if close and name not in setting.choices:
            return f" (did you mean {' or '.join(close)}?)"
        if isinstance(name, (int, float)) and _is_within(name, setting):
            found = _on_device(name, setting)
            if not _is_within(found, setting):
                return " (too large for int32)" if isinstance(name, int) else f" ({found} in float32)"
        if isinstance(name, str) and "\0" in name:
            return " (with a NUL character)"
    is_size = isinstance(value, (tuple, list)) and all(isinstance(x, int) and 0 < x <= LARGEST_SIDE for x in value)
    if setting.product and is_size and math.prod(value) > setting.product:
        return f" ({math.prod(value)} pixels, of which there may be {setting.product})"
    return ""


def unknown(path: str, name: str, known: Iterable[str]) -> str:
    """Returns the sentence on a field that there is not."""
    section, dot, _ = path.rpartition(".")
    for close in difflib.get_close_matches(name, known, n=1):
        return f"there is no field {path}: did you mean {section}{dot}{close}?"
    return f"there is no field {path}: {section or 'a config'} has {', '.join(known)}"
