"""Configs by name or by file, with the changes of a command line."""

import dataclasses
import difflib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from openseg_jax.config.check import describe, examine, refuse, unknown
from openseg_jax.config.schema import Config
from openseg_jax.errors import InputError
from openseg_jax.text import short

_RECIPES = "openseg_jax.recipes"
_CHANGE = re.compile(r"--?(?:no)?config\.([^=]+)")


def load(spec: str, changes: Sequence[str] = ()) -> Config:
    """Loads and checks a config.

    Args:
        spec: NAME[:ARGUMENT], the name of a recipe such as `cityscapes:hrnet_w48_ocr`, or the path of a Python file
            with a function `get_config`, such as `configs/cityscapes.py:hrnet_w48_ocr`. What follows the colon is the
            argument of `get_config`.
        changes: Changes of fields, as on a command line: `--config.train.steps=2000`.

    Raises:
        InputError: With all that is wrong with the changes and with the config that they give.
    """
    config, faults = _changed(_make(spec), changes)
    config, others = examine(config)
    refuse([*faults, *others])
    return config


def changed_fields(changes: Sequence[str], section: str) -> list[str]:
    """Returns the names of the fields of a section that `changes`, those of a command line, give."""
    names = [match[1] for change in changes if (match := _CHANGE.match(change))]
    return [name.removeprefix(f"{section}.") for name in names if name.startswith(f"{section}.")]


def recipes() -> list[str]:
    """Returns the names of the recipes."""
    found = pkgutil.iter_modules(importlib.import_module(_RECIPES).__path__)
    return sorted(module.name for module in found if not module.ispkg and hasattr(_recipe(module.name), "get_config"))


def _recipe(name: str):
    return importlib.import_module(f"{_RECIPES}.{name}")


def _make(spec: str) -> ConfigDict:
    if not spec.isprintable():
        raise InputError(f"a config is NAME[:ARGUMENT] or PATH.py[:ARGUMENT] on one line, found {short(spec)}")
    name, colon, argument = spec.partition(":")
    is_file = name.endswith(".py") or "/" in name or Path(name).name != name
    get_config = _function_of_file(name) if is_file else _function_of_recipe(name)
    arguments = [argument] if colon else []
    signature = _guarded(name, lambda: inspect.signature(get_config))
    try:
        signature.bind(*arguments)
    except TypeError:
        wanted = "no argument after a colon" if colon else "an argument, as in NAME:ARGUMENT"
        raise InputError(f"the config {name} takes {wanted}, found {short(spec)}") from None
    config = _guarded(name, lambda: get_config(*arguments))
    if not isinstance(config, ConfigDict):
        raise InputError(f"get_config of {name} must return a ConfigDict, found {type(config).__name__}")
    return _guarded(name, config.lock)


def _function_of_recipe(name: str) -> Callable[..., ConfigDict]:
    known = recipes()
    if name not in known:
        hint = f"there are {', '.join(known)}, or give the path of a Python file"
        for close in difflib.get_close_matches(name, known, n=1):
            hint = f"did you mean {close}?"
        raise InputError(f"unknown recipe {short(name)}; {hint}")
    return _recipe(name).get_config


def _function_of_file(name: str) -> Callable[..., ConfigDict]:
    try:
        path = Path(name).expanduser()
        is_file, is_without_ending = path.is_file(), Path(f"{path}.py").is_file()
    except (OSError, RuntimeError) as error:  # what the system takes for no path at all
        raise InputError(f"there is no config file {short(name)}: {short(str(error))}") from error
    if not is_file:
        hint = f"; did you mean {name}.py?" if is_without_ending else "; it is a folder" if path.is_dir() else ""
        raise InputError(f"there is no config file {name}{hint}")
    spec = importlib.util.spec_from_file_location("openseg_config_file", path)
    if spec is None or spec.loader is None:
        raise InputError(f"the config file {name} must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses of the file look for their module
    _guarded(name, lambda: spec.loader.exec_module(module))
    if not callable(getattr(module, "get_config", None)):
        raise InputError(f"the config file {name} has no function get_config")
    return module.get_config


def _guarded(name: str, make: Callable):
    """Runs code of a config, whose errors become one sentence."""
    try:
        return make()
    except InputError:
        raise
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise InputError(f"the config {name} cannot be read: {where}{error.msg}") from error
    except (Exception, SystemExit) as error:  # its code may raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).name == Path(name).name]
        where = f" in line {lines[-1]}" if lines else ""
        says = " ".join(traceback.format_exception_only(error)[0].split())
        raise InputError(f"the config {name} fails{where}: {says[:300]}") from error


def _changed(config: ConfigDict, changes: Sequence[str]) -> tuple[ConfigDict, list[str]]:
    """Returns the config with the changes that can be made, and a sentence on each of the others.

    A change is the words of one `--config.FIELD=VALUE` or `--config.FIELD VALUE`. They are made one after the other:
    ml_collections would join the values of a tuple that is given twice.
    """
    faults: list[str] = []
    words: list[tuple[str, list[str]]] = []
    for word in changes:
        if match := _CHANGE.match(word):
            words.append((match[1], [word]))
        elif words:
            words[-1][1].append(word)
        else:
            faults.append(f"a change of the config is --config.FIELD=VALUE, found {short(word)}")
    for place, (name, change) in enumerate(words):
        inside = [other for other, _ in words[:place] if other.startswith(f"{name}.")]
        if inside:
            faults.append(f"--config.{name} would undo --config.{inside[0]}: give it first")
        elif missing := _missing(config, name):
            faults.append(missing)
        else:
            try:
                _apply(config, change)
            except Exception as error:  # absl and ml_collections raise what the value makes them stumble over
                faults.append(_sentence(name, change, error))
    return config, faults


def _apply(config: ConfigDict, changes: Sequence[str]) -> None:
    """Makes changes by the rules of ml_collections."""
    values, arguments = flags.FlagValues(), ["", *changes]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
    rest = values(arguments)[1:]
    if rest:
        raise ValueError(f"unexpected argument {rest[0]!r}")


def _missing(config: ConfigDict, name: str) -> str:
    """Returns a sentence if there is no such field, or nothing."""
    section, path = config, ""
    for part in name.partition("[")[0].split("."):
        if not isinstance(section, ConfigDict):
            return f"there is no field {name}: {path} is no section"
        path = f"{path}.{part}" if path else part
        if part not in section:
            return unknown(path, part, section)
        section = section[part]
    return ""


def _sentence(name: str, change: Sequence[str], error: Exception) -> str:
    kind, field = Config, None
    for part in name.split("."):
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        field = next((field for field in fields if field.name == part), None)
        kind = field.type if field else None
    if field and "setting" in field.metadata and len(change) == 1 and "=" in change[0]:
        return f"{name} must be {describe(kind, field.metadata['setting'])}, found {short(change[0].partition('=')[2])}"
    lines = str(error).splitlines()
    return f"--config.{name} is wrong: {lines[0][:300] if lines else type(error).__name__}"
