"""The options of models: keyword arguments of a backbone and a head, whose signatures say what they are."""

import functools
import inspect
from typing import Any

from openseg_jax import models
from openseg_jax.config.schema import LOSSES, Setting

_DEPTHS = ("blocks", "layer1_blocks", "modules")  # a net of some hundred layers takes minutes to build


@functools.cache
def options_of(name: str, backbone: str = "") -> dict[str, tuple[Any, Setting]]:
    """Returns the options of a named model, on its own or on another backbone: their types, and what is allowed."""
    recipe, options = models.MODELS[name], {}
    for part in (models.BACKBONES[backbone or recipe.backbone], recipe.head):
        for parameter in inspect.signature(part.build.__init__).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                options[parameter.name] = parameter.annotation, _allowed(parameter)
    return options


def _allowed(parameter: inspect.Parameter) -> Setting:
    """Floats are probabilities of dropout; numbers count something, and 0 is for what is left out by default."""
    if parameter.annotation is float:
        return Setting("", least=0, below=1)
    least = 0 if parameter.default == 0 and parameter.default is not False else 1
    return Setting("", least=least, most=64 if parameter.name in _DEPTHS else 8192)


@functools.cache
def outputs_of(name: str, aux_channels: int | None = None) -> frozenset[str]:
    """Returns the names of the outputs of a named model. aux_channels: the value of that option, if it is given."""
    head: Any = models.MODELS[name].head.build
    if head.main_output != "out":
        return next(facts.outputs[0] for facts in LOSSES.values() if head.main_output in facts.outputs[0])
    aux = models.default_options(name).get("aux_channels") if aux_channels is None else aux_channels
    return frozenset({"out"}) if aux == 0 else frozenset({"out", "aux"})
