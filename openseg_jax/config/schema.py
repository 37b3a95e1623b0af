"""Every field of a config: its type, its default and what it means."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Any


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    name: str = "hrnet_w48_ocr"
    backbone: str = ""
    norm: str = "batch_norm"
    dtype: str = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class PretrainedSettings:
    checkpoint: str = ""
    parts: str = "backbone"


@dataclasses.dataclass(frozen=True)
class SyntheticSettings:
    size: tuple[int, int] = (128, 160)
    train_count: int = 2000
    val_count: int = 64


@dataclasses.dataclass(frozen=True)
class ExtraData:
    root: str = ""
    split: str = ""
    classes: str = ""


@dataclasses.dataclass(frozen=True)
class DataSettings:
    source: str = "folder"
    root: str = ""
    classes: str = ""
    train_split: str = "train"
    val_split: str = "val"
    image_folder: str = "image"
    label_folder: str = "label"
    maps: tuple[str, ...] = ()
    offset_folder: str = ""
    extra: tuple[ExtraData, ...] = ()
    weights: tuple[float, ...] = ()
    cache: str = ""
    check: bool = True
    workers: int = 0
    synthetic: SyntheticSettings = SyntheticSettings()


@dataclasses.dataclass(frozen=True)
class NormalizationSettings:
    channels: str = "bgr"
    divisor: float = 255.0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class ResizeSettings:
    size: tuple[int, ...] = ()
    min_side: int = 0
    bound: int = 0


@dataclasses.dataclass(frozen=True)
class CollateSettings:
    mode: str = "fix_size"
    size: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    align: str = "only_pad"
    place: str = "random"
    stride: int = 1


@dataclasses.dataclass(frozen=True)
class AugmentSettings:
    chain: tuple[str, ...] = ("random_resize", "random_crop", "random_flip", "random_brightness")
    resize: ResizeSettings = ResizeSettings()
    scale: tuple[float, float] = (0.5, 2.0)
    aspect: tuple[float, float] = (0.9, 1.1)
    crop: tuple[int, int] = (512, 1024)
    flip: float = 0.5
    legacy_angle: bool = False
    brightness: int = 10
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 18.0
    blur: tuple[float, float] = (0.1, 2.0)
    rotate: float = 10.0
    collate: CollateSettings = CollateSettings()
    on_device: bool = False


@dataclasses.dataclass(frozen=True)
class RmiSettings:
    radius: int = 3
    pool: str = "max"
    pool_size: int = 3
    balance: float = 0.5
    complementary: bool = True
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class SegFixSettings:
    min_distance: int = 0
    max_distance: int = 5
    mask_threshold: float = 0.5
    mask_weight: float = 1.0
    direction_weight: float = 1.0
    align_axis: bool = False


@dataclasses.dataclass(frozen=True)
class Ce2pSettings:
    edge_weight: float = 1.0
    parsing_weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class LossSettings:
    name: str = "aux_ce"
    class_weights: tuple[float, ...] = ()
    aux_weight: float = 0.4
    out_weight: float = 1.0
    ohem_threshold: float = 0.9
    ohem_min_kept: int = 100_000
    rmi: RmiSettings = RmiSettings()
    segfix: SegFixSettings = SegFixSettings()
    ce2p: Ce2pSettings = Ce2pSettings()
    scope: str = "global"
    replicas: int = 4


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    name: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 5e-4
    decay_norms_and_biases: bool = True
    head_multiplier: float = 1.0
    freeze: tuple[str, ...] = ()
    clip_norm: float = 0.0


@dataclasses.dataclass(frozen=True)
class PlateauSettings:
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    min_factor: float = 0.0


@dataclasses.dataclass(frozen=True)
class WarmupSettings:
    steps: int = 0
    power: float = 1.0
    freeze: bool = False
    of: str = "all"


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    name: str = "poly"
    power: float = 0.9
    gamma: float = 0.1
    step_size: int = 30_000
    milestones: tuple[int, ...] = ()
    plateau: PlateauSettings = PlateauSettings()
    warmup: WarmupSettings = WarmupSettings()


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    batch_size: int = 8
    steps: int = 80_000
    accumulate: int = 1
    ema: float = 0.0
    frozen_norm: str = ""
    recompute: bool = False
    log_every: int = 10
    eval_every: int = 1000
    save_every: int = 1000
    log_images: int = 4


@dataclasses.dataclass(frozen=True)
class EvalSettings:
    batch_size: int = 4
    max_buckets: int = 4
    min_side: int = 0
    size: tuple[int, ...] = ()
    pad_size: tuple[int, ...] = ()
    pad_stride: int = 1
    protocol: str = "single"
    scales: tuple[float, ...] = ()
    scale_weights: tuple[float, ...] = ()
    swap: bool = True
    crop: tuple[int, ...] = ()
    crop_stride: tuple[int, ...] = ()
    crop_window: str = "uniform"
    exact_shapes: bool = False
    segfix: str = ""
    segfix_scale: int = 2


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    spatial: int = 1
    shard_optimizer: bool = False


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 304
    model: ModelSettings = ModelSettings()
    pretrained: PretrainedSettings = PretrainedSettings()
    data: DataSettings = DataSettings()
    normalization: NormalizationSettings = NormalizationSettings()
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings = TrainSettings()
    eval: EvalSettings = EvalSettings()
    mesh: MeshSettings = MeshSettings()
