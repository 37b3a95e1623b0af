"""The options of models: keyword arguments of a backbone and a head, whose signatures say what they are."""

import functools
import inspect
import typing
from typing import Any, NamedTuple

from openseg_jax import models
from openseg_jax.config.schema import Setting


class Option(NamedTuple):
    """The type of an option and what is allowed for it."""

    hint: Any
    setting: Setting


@functools.cache
def options_of(name: str, backbone: str = "") -> dict[str, Option]:
    """Returns every option of a named model, on its own or on another backbone."""
    recipe = models.MODELS[name]
    builds = [models.BACKBONES[backbone or recipe.backbone].build, recipe.head.build]
    return {option: found for build in builds for option, found in _options(build).items()}


def _options(build: Any) -> dict[str, Option]:
    hints = typing.get_type_hints(build.__init__)
    parameters = inspect.signature(build.__init__).parameters.values()
    return {
        p.name: Option(hints[p.name], _allowed(hints[p.name], p.default))
        for p in parameters
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _allowed(hint, default) -> Setting:
    """Floats are probabilities of dropout; numbers count something, and 0 is for what is left out by default."""
    if hint is float:
        return Setting("", least=0, below=1)
    return Setting("", least=0 if default == 0 and default is not False else 1)


@functools.cache
def outputs_of(name: str, aux_channels: int | None = None) -> frozenset[str]:
    """Returns the names of the outputs of a named model. aux_channels: the value of that option, if it is given."""
    head: Any = models.MODELS[name].head.build
    if head.main_output == "mask":
        return frozenset({"mask", "direction"})
    if head.main_output != "out":
        return frozenset({"seg_out1", "edge_out", "seg_dsn", "seg_out2"})
    aux = models.default_options(name).get("aux_channels") if aux_channels is None else aux_channels
    return frozenset({"out"}) if aux == 0 else frozenset({"out", "aux"})
