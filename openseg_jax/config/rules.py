"""What must hold between the fields of a config, each of which is right alone.

Every rule yields sentences that name their fields by dotted names. For `=` in their f-strings, which writes the name
and the value, sections of the config are bound to their own names. What needs files or devices to tell is checked where
they are used.
"""

import math
from collections.abc import Iterator

from openseg_jax.config.options import outputs_of
from openseg_jax.config.schema import LOSSES, PROTOCOLS, AugmentSettings, Config
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import CLASS_WEIGHTS, ClassTable, known_tables, load_classes
from openseg_jax.text import short

# The transforms that `data/on_device.py` knows.
_ON_DEVICE = ("resize", "random_resize", "random_crop", "center_crop", "random_flip", "random_brightness")
_LARGEST_BATCH = 2**31  # pixels; the host holds several batches of 4 bytes a pixel


def contradictions(config: Config) -> Iterator[str]:
    """Yields a sentence on each contradiction between fields."""
    for rule in (_loss, _batches, _data, _normalization, _augment, _optimization, _eval):
        yield from rule(config)
    if config.data.source != "synthetic" and config.data.classes in known_tables():
        yield from class_faults(config, load_classes(config.data.classes))


def class_faults(config: Config, classes: ClassTable) -> Iterator[str]:
    """Yields a sentence on each contradiction between a config and the classes of its data."""
    weights, data = config.loss.class_weights, config.data
    try:
        classes.places(config.eval.left_out)
    except InputError as error:
        yield f"eval.left_out: {error}"
    where = f"data.classes={data.classes}" if data.classes and data.source != "synthetic" else classes.title
    if weights and len(weights) != len(classes):
        yield f"loss.class_weights has {len(weights)} numbers, but {where} has {len(classes)} classes"
        return
    for table, published in CLASS_WEIGHTS.items():
        if weights == published and classes.names != load_classes(table).names:
            yield (
                f"loss.class_weights are those of the classes of {table}, but {where} has other classes: give weights "
                'of these, or "()", with which all count alike'
            )


def _loss(config: Config) -> Iterator[str]:
    loss, model, data = config.loss, config.model, config.data
    facts, found = LOSSES[loss.name], outputs_of(model.name, model.options.get("aux_channels"))
    if found not in facts.outputs:
        fitting = [f'"{name}"' for name, others in LOSSES.items() if found in others.outputs]
        yield (
            f"{loss.name=!s} takes the outputs {', '.join(sorted(facts.outputs[-1]))}, but {model.name=!s} has "
            f"{', '.join(sorted(found))}: it takes loss.name={' or '.join(fitting)}"
        )
    missing = [entry for entry in facts.needs if entry not in data.maps]
    if missing:
        yield f"{loss.name=!s} needs {missing[0]!r} in data.maps, found {data.maps}"
    weights = loss.class_weights
    if weights and not any(weights):
        yield f"loss.class_weights must not all be 0, found {short(weights)}"
    if loss.segfix.min_distance > loss.segfix.max_distance:
        yield f"{loss.segfix.min_distance=} must be at most {loss.segfix.max_distance=}"
    if loss.name == "segfix" and not (loss.segfix.mask_weight or loss.segfix.direction_weight):
        yield "loss.segfix.mask_weight and loss.segfix.direction_weight must not both be 0"
    if loss.name.startswith("aux_") and not (loss.out_weight or loss.aux_weight):
        yield "loss.out_weight and loss.aux_weight must not both be 0"


def _batches(config: Config) -> Iterator[str]:
    train, loss = config.train, config.loss
    if train.batch_size % train.accumulate:
        yield f"{train.accumulate=} must divide {train.batch_size=}"
    elif loss.scope == "replica" and train.batch_size // train.accumulate % loss.replicas:
        divided = f" divided by {train.accumulate=}" if train.accumulate > 1 else ""
        yield f"{loss.replicas=} must divide {train.batch_size=}{divided}, or loss.scope be global"
    if train.accumulate > 1 and loss.scope == "global" and not LOSSES[loss.name].sums:
        yield (
            f"{loss.name=!s} of a whole batch is not a sum over its parts: with {train.accumulate=} take "
            'loss.scope=replica, the mean of their losses, or loss.name="ce" or "aux_ce"'
        )
    largest = max(map(math.prod, _sizes(config.augment)))
    if train.batch_size * largest > _LARGEST_BATCH:
        yield f"{train.batch_size=} images of {largest} pixels are more than the {_LARGEST_BATCH} pixels of a batch"


def _data(config: Config) -> Iterator[str]:
    data = config.data
    count = 1 + len(data.extra)
    if data.weights and len(data.weights) != count:
        yield (
            f"data.weights must have a number for the training split and one for each of data.extra, {count} in all, "
            f"found {short(data.weights)}"
        )
    if len(set(data.maps)) != len(data.maps):
        yield f"data.maps must name each map once, found {short(data.maps)}"
    if data.source != "synthetic":
        return
    for name, split in (("train_split", data.train_split), ("val_split", data.val_split)):
        if split not in ("train", "val"):
            yield f'data.{name} must be "train" or "val" where data.source=synthetic, found {short(split)}'
    if {*data.maps} - {"offset"} or data.offset_folder:
        yield (
            f"{data.maps=} with {data.offset_folder=} are files, which data.source=synthetic does not have: it takes "
            '("offset",) with data.offset_folder="", or none'
        )


def _normalization(config: Config) -> Iterator[str]:
    normalization = config.normalization
    white = 255 / normalization.divisor
    if max(normalization.mean) > white:
        yield f"{normalization.mean=} is brighter than white, which {normalization.divisor=} makes {white:g}"
    if max(normalization.std) > max(white, 1):
        yield f"{normalization.std=} is more than white, which {normalization.divisor=} makes {white:g}"


def _augment(config: Config) -> Iterator[str]:
    augment, data = config.augment, config.data
    resize, collate = augment.resize, augment.collate
    if resize.size and resize.min_side:
        yield f"{augment.resize.size=} and {augment.resize.min_side=} exclude each other: set one of them"
    if "resize" in augment.chain and not (resize.size or resize.min_side):
        yield "resize in augment.chain needs augment.resize.size or augment.resize.min_side"
    if resize.bound and resize.bound < resize.min_side:
        yield f"{augment.resize.bound=} must be at least {augment.resize.min_side=}"
    if collate.mode == "multi_size" and not collate.sizes:
        yield "augment.collate.mode=multi_size needs augment.collate.sizes"
    largest = _largest_sample(augment)
    for size in _sizes(augment) if collate.align == "only_pad" and math.inf not in largest else ():
        if largest == augment.crop and _exceeds(largest, size):
            yield f"{augment.crop=} does not fit into augment.collate.size={size}: let augment.collate.align scale it"
        elif _exceeds(largest, size):
            shown = "x".join(str(math.ceil(side)) for side in largest)
            yield (
                f"augment.chain makes samples of up to {shown} pixels, which do not fit into batches of {size}: put "
                "random_crop behind what enlarges them, or let augment.collate.align scale them"
            )
    if not augment.on_device:
        return
    if collate.mode != "fix_size":
        yield "augment.on_device gives batches of one size: leave augment.collate.mode at fix_size"
    if data.maps:
        yield f"augment.on_device knows images and labels only: leave it off with {data.maps=}"
    others = [name for name in augment.chain if name not in _ON_DEVICE]
    if others:
        yield f"augment.on_device cannot do {' or '.join(others)} of augment.chain: leave one of them out"
    kinds = [kind for name in augment.chain if (kind := name.rpartition("_")[2]) in ("resize", "crop")]
    if kinds != sorted(kinds, reverse=True):
        yield f"augment.on_device resizes before it crops, found augment.chain={augment.chain}"


def _sizes(augment: AugmentSettings) -> list[tuple[int, ...]]:
    """Returns the sizes that batches may have."""
    collate = augment.collate
    sizes = collate.sizes if collate.mode == "multi_size" and collate.sizes else (collate.size or augment.crop,)
    return [tuple(-(-side // collate.stride) * collate.stride for side in size) for size in sizes]


def _largest_sample(augment: AugmentSettings) -> tuple[float, float]:
    """Returns the largest (height, width) that `chain` can make, infinite where that depends on the images."""
    height, width = math.inf, math.inf
    for name in augment.chain:
        if name == "resize":
            bound = augment.resize.bound or math.inf
            height, width = augment.resize.size or (bound, bound)
        elif name == "random_resize":
            factor, (low, high) = augment.scale[1], augment.aspect
            height, width = height * factor * math.sqrt(1 / low), width * factor * math.sqrt(high)
        elif name.endswith("crop"):
            height, width = min(height, augment.crop[0]), min(width, augment.crop[1])
        elif name == "random_rotate" and augment.rotate:
            height = width = math.hypot(height, width)
    return height, width


def _optimization(config: Config) -> Iterator[str]:
    optimizer, schedule, train = config.optimizer, config.schedule, config.train
    if optimizer.nesterov and optimizer.name == "sgd" and not optimizer.momentum:
        yield "optimizer.nesterov needs an optimizer.momentum above 0"
    if schedule.name == "multistep" and not schedule.milestones:
        yield "schedule.name=multistep needs schedule.milestones"
    elif schedule.name == "multistep" and schedule.milestones[-1] >= train.steps:
        yield f"{schedule.milestones=} must lie before the end, {train.steps=}"
    if schedule.name == "step" and schedule.step_size >= train.steps:
        yield f"{schedule.step_size=} must be less than {train.steps=}, or the learning rate never falls"
    if schedule.name.startswith("swa") and train.patience:
        yield f"{train.patience=} would end a run before {schedule.name=!s} has averaged its weights: give 0"
    if schedule.warmup.steps > train.steps:
        yield f"{schedule.warmup.steps=} must be at most {train.steps=}"


def _eval(config: Config) -> Iterator[str]:
    eval = config.eval
    protocol = PROTOCOLS[eval.protocol]
    scales, window = eval.scales or protocol.get("scales", (1.0,)), protocol.get("crop")
    if eval.size and eval.min_side:
        yield f"{eval.size=} and {eval.min_side=} exclude each other: set one of them"
    if eval.pad_size and eval.pad_stride > 1:
        yield f"{eval.pad_size=} and {eval.pad_stride=} exclude each other: set one of them"
    weights = eval.scale_weights
    if weights and len(weights) != len(scales):
        yield f"eval.scale_weights must have a number for each of {len(scales)} eval.scales, found {short(weights)}"
    if weights and not any(weights):
        yield f"eval.scale_weights must not all be 0, found {short(weights)}"
    for name, value in (("crop", eval.crop), ("crop_stride", eval.crop_stride)):
        if value and not window:
            yield f'eval.{name}={value} is for eval.protocol="crops" or "ms_crops", found {eval.protocol=!s}'
    crop = eval.crop or window
    if window and eval.crop_stride and _exceeds(eval.crop_stride, crop):
        yield f"{eval.crop_stride=} leaves gaps between the windows, eval.crop={crop}"


def _exceeds(size: tuple[int, ...], limit: tuple[int, ...]) -> bool:
    return any(a > b for a, b in zip(size, limit, strict=True))
