"""What recipes share: the config with every field, the options after the colon, and the loss that a net takes."""

import dataclasses
import difflib
from collections.abc import Iterable

from ml_collections import ConfigDict, config_dict

from openseg_jax import models
from openseg_jax.config import Config
from openseg_jax.config.options import options_of, outputs_of
from openseg_jax.config.schema import LOSSES
from openseg_jax.errors import InputError
from openseg_jax.text import short

# The options that recipes may take, beside the names of backbones.
OPTIONS = {
    "ohem": "OHEM in place of the cross-entropy of the main output",
    "rmi": "RMI in place of the cross-entropy of the main output",
    "v17": "the recipe of the original's branch pytorch-1.7, whose norm is plain batch norm",
    "trainval": "trains on the validation split, too",
    "eight_gpus": "the recipes that ran on eight GPUs",
    "from_mapillary": "the first stage of the chain in docs/recipes.md, on Cityscapes",
    "coarse": "the second stage, on the coarse labels",
    "from_coarse": "the third stage, on the fine labels",
    "small": "a recipe for a CPU",
    "instance": "boundaries of instances in place of those of classes",
    "ade20k_too": "Cityscapes and ADE20K together",
}
_EXCLUSIVE = (("ohem", "rmi"), ("from_mapillary", "coarse", "from_coarse"))
SCENES = ("v17", "ohem", "rmi", "eight_gpus")  # the options of `of_scenes`
RESIZED = ("random_flip", "resize", "random_resize", "random_crop", "random_brightness")  # an augment.chain


@dataclasses.dataclass(frozen=True)
class Takes:
    """What a recipe takes after its colon: "NAME[,OPTION...]". The name of a backbone is an option of every recipe."""

    default: str  # what it takes if there is nothing
    options: tuple[str, ...] = ()  # among OPTIONS
    names: tuple[str, ...] = tuple(models.MODELS)  # what may come first
    what: str = "model"  # what these are


@dataclasses.dataclass(frozen=True)
class Argument:
    """What a user wrote after the colon. `"ohem" in argument` tells whether an option is there."""

    name: str  # a named model, or what else comes first
    backbone: str  # a backbone other than the model's own, or ""
    options: frozenset[str]

    def __contains__(self, option: str) -> bool:
        return option in self.options


def parse_argument(text: str, takes: Takes) -> Argument:
    """Parses the argument of a recipe. Raises InputError with all that is wrong."""
    name, *words = [word.strip() for word in (text or takes.default).split(",")]
    backbones = [word for word in words if word in models.BACKBONES]
    options = frozenset(words) - {*backbones}
    faults = [] if name in takes.names else [_unknown(takes.what, name, takes.names)]
    shown, known = (*takes.options, "the names of backbones"), (*takes.options, *models.BACKBONES)
    faults += [_unknown("option", word, shown, models.BACKBONES) for word in dict.fromkeys(words) if word not in known]
    exclusive = [backbones, *([option for option in group if option in options] for group in _EXCLUSIVE)]
    faults += [f"the options {' and '.join(group)} exclude each other" for group in exclusive if len(group) > 1]
    if faults:
        raise InputError("; ".join(faults))
    return Argument(name, "".join(backbones), options)


def _unknown(what: str, name: str, known: Iterable[str], others: Iterable[str] = ()) -> str:
    close = difflib.get_close_matches(name, (*known, *others), n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown {what} {short(name)}; there are {', '.join(known)}{hint}"


def loss_for(model: str, option: str = "") -> str:
    """Returns the loss for a named model, with the option "ohem", "rmi" or none.

    Nets with an auxiliary output are trained on both outputs.

    Raises:
        InputError: If there is no such loss for the outputs of the model.
    """
    outputs = outputs_of(model)
    loss = next(loss for loss, facts in LOSSES.items() if facts.outputs[0] == outputs)
    if option and "out" not in outputs:
        raise InputError(
            f"the option {option} is for nets with the outputs out or aux and out, but {model} has "
            f"{', '.join(sorted(outputs))} and is trained with the loss {loss}: leave {option} out"
        )
    return loss.removesuffix("ce") + option if option else loss  # such as aux_ce and ohem: aux_ohem


def base(model: str, backbone: str = "") -> ConfigDict:
    """Returns a config with every field: a named model, the options that it has, and the loss that it takes."""
    config = ConfigDict(Config().to_dict())
    config.model.update(name=model, backbone=backbone, options=models.default_options(model))
    for name, (hint, _) in options_of(model).items():
        if config.model.options[name] is None:  # for which `ConfigDict` needs the type
            config.model.options[name] = config_dict.placeholder(tuple if "tuple" in str(hint) else int)
    config.loss.name = loss_for(model)
    config.data.maps = LOSSES[config.loss.name].needs
    return config


def of_original(model: str, argument: Argument) -> ConfigDict:
    """Returns the config of a model with the original's norm, loss and normalisation."""
    config = base(model, argument.backbone)
    config.model.norm = "batch_norm" if "v17" in argument else "inplace_abn"
    # The mean is that of ImageNet for HRNets and wide ResNets, and that of Caffe's nets for others, both of BGR pixels.
    backbone = argument.backbone or models.MODELS[model].backbone
    if "hrnet" not in backbone and "wide" not in backbone:
        config.normalization.update(divisor=1.0, mean=(102.9801, 115.9465, 122.7717), std=(1.0, 1.0, 1.0))
    losses = [option for option in ("ohem", "rmi") if option in argument]
    config.loss.update(name=loss_for(model, *losses), scope="replica", replicas=8 if "eight_gpus" in argument else 4)
    return config


def of_scenes(options: Argument, classes: str) -> ConfigDict:
    """Returns what ADE20K, PASCAL-Context and COCO-Stuff have in common: shorter side 520, crops of 520x520."""
    config = of_original(options.name, options)
    config.data.update(classes=classes, workers=8)
    config.augment.update(chain=RESIZED, crop=(520, 520))
    config.augment.resize.min_side = config.eval.min_side = 520
    config.optimizer.update(learning_rate=0.001, head_multiplier=10.0, weight_decay=1e-4)
    config.train.update(batch_size=16, steps=60_000, eval_every=5000, save_every=5000)
    return config
