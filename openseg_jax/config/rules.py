"""What must hold between the fields of a config, each of which is right alone.

Every rule yields sentences that name their fields by dotted names. What needs files or devices to tell is checked where
they are used.
"""

import functools
from collections.abc import Iterator

from openseg_jax.config.options import outputs_of
from openseg_jax.config.schema import (
    LOSSES,
    PROTOCOLS,
    AugmentSettings,
    Config,
    DataSettings,
    EvalSettings,
    LossSettings,
    ScheduleSettings,
)
from openseg_jax.labels.classes import known_tables, load_classes

# The transforms that `data/on_device.py` knows.
_ON_DEVICE = ("resize", "random_resize", "random_crop", "center_crop", "random_flip", "random_brightness")


def contradictions(config: Config) -> Iterator[str]:
    """Yields a sentence on each contradiction between fields."""
    yield from _loss_and_model(config)
    yield from _loss(config.loss, config.data.classes)
    yield from _batches(config)
    yield from _data(config.data)
    yield from _augment(config.augment)
    yield from _on_device(config)
    yield from _schedule(config.schedule, config.train.steps)
    yield from _eval(config.eval)
    if config.optimizer.nesterov and config.optimizer.name == "sgd" and not config.optimizer.momentum:
        yield "optimizer.nesterov needs an optimizer.momentum above 0"


def _loss_and_model(config: Config) -> Iterator[str]:
    name, facts = config.loss.name, LOSSES[config.loss.name]
    found = outputs_of(config.model.name, config.model.options.get("aux_channels"))
    if found not in facts.outputs:
        fitting = [f'"{loss}"' for loss, others in LOSSES.items() if found in others.outputs]
        yield (
            f"loss.name={name} takes the outputs {', '.join(sorted(facts.outputs[-1]))}, but model.name="
            f"{config.model.name} has {', '.join(sorted(found))}: it takes loss.name={' or '.join(fitting)}"
        )
    missing = [entry for entry in facts.needs if entry not in config.data.maps]
    if missing:
        yield f"loss.name={name} needs {missing[0]!r} in data.maps, found {config.data.maps}"


def _loss(loss: LossSettings, table: str) -> Iterator[str]:
    weights = loss.class_weights
    if weights and not any(weights):
        yield f"loss.class_weights must not all be 0, found {weights}"
    if weights and table in known_tables() and len(weights) != _count(table):
        yield f"loss.class_weights has {len(weights)} numbers, but data.classes={table} has {_count(table)} classes"
    segfix = loss.segfix
    if segfix.min_distance > segfix.max_distance:
        yield (
            f"loss.segfix.min_distance={segfix.min_distance} must be at most "
            f"loss.segfix.max_distance={segfix.max_distance}"
        )
    parts = {"loss.out_weight": loss.out_weight}
    if loss.name.startswith("aux_"):
        parts |= {"loss.aux_weight": loss.aux_weight}
    elif loss.name == "segfix":
        parts = {"loss.segfix.mask_weight": segfix.mask_weight, "loss.segfix.direction_weight": segfix.direction_weight}
    if loss.name.startswith(("aux_", "segfix")) and not any(parts.values()):
        yield f"{' and '.join(parts)} must not both be 0"


@functools.cache
def _count(table: str) -> int:
    return len(load_classes(table))


def _batches(config: Config) -> Iterator[str]:
    batch, parts, replicas = config.train.batch_size, config.train.accumulate, config.loss.replicas
    if batch % parts:
        yield f"train.accumulate={parts} must divide train.batch_size={batch}"
    elif config.loss.scope == "replica" and batch // parts % replicas:
        divided = f"train.batch_size={batch}" + f" divided by train.accumulate={parts}" * (parts > 1)
        yield f"loss.replicas={replicas} must divide {divided}, or loss.scope be global"
    if parts > 1 and config.loss.scope == "global" and not LOSSES[config.loss.name].sums:
        yield (
            f"loss.name={config.loss.name} of a whole batch is not a sum over its parts: with train.accumulate={parts} "
            'take loss.scope=replica, the mean of their losses, or loss.name="ce" or "aux_ce"'
        )


def _data(data: DataSettings) -> Iterator[str]:
    count = 1 + len(data.extra)
    if data.weights and len(data.weights) != count:
        yield (
            f"data.weights must have a number for the training split and one for each of data.extra, {count} in all, "
            f"found {data.weights}"
        )
    if len(set(data.maps)) != len(data.maps):
        yield f"data.maps must name each map once, found {data.maps}"
    if data.source != "synthetic":
        return
    for name, split in (("train_split", data.train_split), ("val_split", data.val_split)):
        if split not in ("train", "val"):
            yield f'data.{name} must be "train" or "val" where data.source=synthetic, found {split!r}'
    if {*data.maps} - {"offset"} or data.offset_folder:
        yield (
            f"data.maps={data.maps} with data.offset_folder={data.offset_folder!r} are files, which data.source="
            'synthetic does not have: it takes ("offset",) with data.offset_folder="", or none'
        )


def _augment(augment: AugmentSettings) -> Iterator[str]:
    resize, collate = augment.resize, augment.collate
    if resize.size and resize.min_side:
        yield (
            f"augment.resize.size={resize.size} and augment.resize.min_side={resize.min_side} exclude each other: "
            "set one of them"
        )
    if "resize" in augment.chain and not (resize.size or resize.min_side):
        yield "resize in augment.chain needs augment.resize.size or augment.resize.min_side"
    if resize.bound and resize.bound < resize.min_side:
        yield f"augment.resize.bound={resize.bound} must be at least augment.resize.min_side={resize.min_side}"
    if collate.mode == "multi_size" and not collate.sizes:
        yield "augment.collate.mode=multi_size needs augment.collate.sizes"
    crops = {"random_crop", "center_crop"} & {*augment.chain}
    if crops and collate.mode == "fix_size" and collate.align == "only_pad":
        size = collate.size or augment.crop
        if _exceeds(augment.crop, size):
            yield (
                f"augment.crop={augment.crop} does not fit into augment.collate.size={size}: let augment.collate.align "
                "scale it"
            )


def _exceeds(size: tuple[int, ...], limit: tuple[int, ...]) -> bool:
    return any(a > b for a, b in zip(size, limit, strict=True))


def _on_device(config: Config) -> Iterator[str]:
    augment = config.augment
    if not augment.on_device:
        return
    if augment.collate.mode != "fix_size":
        yield "augment.on_device gives batches of one size: leave augment.collate.mode at fix_size"
    if config.data.maps:
        yield f"augment.on_device knows images and labels only: leave it off with data.maps={config.data.maps}"
    others = [name for name in augment.chain if name not in _ON_DEVICE]
    if others:
        yield f"augment.on_device cannot do {' or '.join(others)} of augment.chain: leave one of them out"


def _schedule(schedule: ScheduleSettings, steps: int) -> Iterator[str]:
    if schedule.name == "multistep" and not schedule.milestones:
        yield "schedule.name=multistep needs schedule.milestones"
    if schedule.warmup.steps > steps:
        yield f"schedule.warmup.steps={schedule.warmup.steps} must be at most train.steps={steps}"


def _eval(settings: EvalSettings) -> Iterator[str]:
    protocol = PROTOCOLS[settings.protocol]
    scales, window = settings.scales or protocol.get("scales", (1.0,)), protocol.get("crop")
    if settings.size and settings.min_side:
        yield f"eval.size={settings.size} and eval.min_side={settings.min_side} exclude each other: set one of them"
    if settings.pad_size and settings.pad_stride > 1:
        yield (
            f"eval.pad_size={settings.pad_size} and eval.pad_stride={settings.pad_stride} exclude each other: set one "
            "of them"
        )
    weights = settings.scale_weights
    if weights and len(weights) != len(scales):
        yield f"eval.scale_weights must have a number for each of {len(scales)} eval.scales, found {weights}"
    if weights and not any(weights):
        yield f"eval.scale_weights must not all be 0, found {weights}"
    for name, value in (("crop", settings.crop), ("crop_stride", settings.crop_stride)):
        if value and not window:
            yield (
                f'eval.{name}={value} is for eval.protocol="crops" or "ms_crops", found '
                f"eval.protocol={settings.protocol}"
            )
    crop = settings.crop or window
    if window and settings.crop_stride and _exceeds(settings.crop_stride, crop):
        yield f"eval.crop_stride={settings.crop_stride} leaves gaps between the windows, eval.crop={crop}"
