"""Every field of a config: its type, its default, what is allowed and what it means.

Defaults, checks, the `ConfigDict` of recipes and docs/config.md all come from here.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from openseg_jax import models
from openseg_jax.models.layers import NORMS

__all__ = [
    "AugmentSettings",
    "Ce2pSettings",
    "CollateSettings",
    "Config",
    "DataSettings",
    "EvalSettings",
    "ExtraData",
    "LossSettings",
    "MeshSettings",
    "ModelSettings",
    "NormalizationSettings",
    "OptimizerSettings",
    "PlateauSettings",
    "PretrainedSettings",
    "ResizeSettings",
    "RmiSettings",
    "ScheduleSettings",
    "SegFixSettings",
    "SyntheticSettings",
    "TrainSettings",
    "WarmupSettings",
]


class Setting(NamedTuple):
    """What is allowed for a field. Limits and choices hold for each element of a tuple.

    Beyond that, whole numbers fit into int32, unless `most` is larger, and numbers are within their limits in float32.
    """

    help: str  # one line of explanation
    unit: str = ""  # what numbers count, such as "pixels"
    above: float | None = None  # numbers must be larger than this
    least: float | None = None  # numbers must be at least this
    below: float | None = None  # numbers must be smaller than this
    most: float | None = None  # numbers must be at most this
    product: int | None = None  # the product of the whole numbers of a tuple must be at most this
    choices: tuple[str, ...] = ()  # the strings that are allowed; any, if empty
    filled: bool = False  # whether a string may not be empty
    ordered: str = ""  # "range" where numbers may not fall, "rising" where each must be larger than the one before


def setting(default: Any, help: str, choices: Iterable[str] = (), **allowed: Any) -> Any:
    """Returns a dataclass field that carries a `Setting`."""
    return dataclasses.field(default=default, metadata={"setting": Setting(help, choices=tuple(choices), **allowed)})


Names = tuple[str, ...]
Range = tuple[float, float]
Size = tuple[int, int]  # height and width
SizeOrNone = Size | tuple[()]
LARGEST_SIDE = 32_768  # of an image in pixels: OpenCV's resampling takes no more
LARGEST_AREA = 2**26  # of what a net sees at once: the stem of an HRNet makes 4 GB of it
_SIDES = {"unit": "pixels, height and width", "least": 1, "most": LARGEST_SIDE, "product": LARGEST_AREA}
_SIDE_OR_NONE = {"unit": "pixels", "least": 0, "most": LARGEST_SIDE}
_FACTORS = {"least": 1 / 32, "most": 32, "ordered": "range"}
_COLOUR_FACTORS = {"least": 0, "most": 100, "ordered": "range"}
_WEIGHT = {"least": 0, "most": 1_000_000}

_GEOMETRY = ("resize", "random_resize", "random_crop", "center_crop", "random_flip", "random_rotate")
_COLOURS = ("random_brightness", "random_contrast", "random_saturation", "random_hue", "random_permute", "random_blur")
_PLACES = ("random", "pad_right_down", "pad_left_up", "pad_center", "pad_border")
_SCHEDULES = ("poly", "cosine", "step", "multistep", "constant", "plateau", "swa_poly", "swa_cosine")
_OPTIONS = Setting("keyword arguments of the backbone and the head; `openseg models NAME` lists them")


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """The net."""

    name: str = setting("hrnet_w48_ocr", "a named model; `openseg models` lists them", choices=models.MODELS)
    backbone: str = setting("", "a backbone other than the model's own", choices=("", *models.BACKBONES))
    norm: str = setting(
        "batch_norm",
        "the normalisation layer; the last three are the original's names of batch_norm",
        choices=(*NORMS, "torchbn", "torchsyncbn", "syncbn"),
    )
    dtype: str = setting("float32", "the type of the computation", choices=("float32", "bfloat16", "float16"))
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict, metadata={"setting": _OPTIONS})


@dataclasses.dataclass(frozen=True)
class PretrainedSettings:
    """The weights that a run starts from."""

    checkpoint: str = setting("", "the folder of a run or of an imported checkpoint, or a PyTorch file")
    parts: str = setting(
        "backbone",
        "what is taken from it: the backbone, all, or every variable that matches in name and shape",
        choices=("backbone", "all", "matching"),
    )


@dataclasses.dataclass(frozen=True)
class SyntheticSettings:
    """The synthetic textures, with data.source=synthetic."""

    size: Size = setting((128, 160), "the size of the scenes", **_SIDES)
    train_count: int = setting(2000, "the number of training scenes", least=1, most=10_000_000)
    val_count: int = setting(64, "the number of validation scenes", least=1, most=10_000_000)


@dataclasses.dataclass(frozen=True)
class ExtraData:
    """More training data, one entry of data.extra. What is left out is as in the data set itself."""

    root: str = setting("", "the folder of the data")
    split: str = setting("", "the split")
    classes: str = setting("", "the class table")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The data set."""

    source: str = setting(
        "folder",
        "folder reads ROOT/SPLIT/image and ROOT/SPLIT/label, or records; synthetic makes textures in memory",
        choices=("folder", "synthetic"),
    )
    root: str = setting("", "the folder of the data set")
    classes: str = setting("", "a class table by name, or a file; if empty, ROOT/classes.yaml or ROOT/classes.json")
    train_split: str = setting("train", "the split for training", filled=True)
    val_split: str = setting("val", "the split for validation and evaluation", filled=True)
    image_folder: str = setting("image", "the folder of images in each split", filled=True)
    label_folder: str = setting("label", "the folder of masks in each split", filled=True)
    maps: Names = setting((), "what else a sample has", choices=("edge", "offset", "stereo"))
    offset_folder: str = setting(
        "",
        "the folder of offsets in each split; if empty they are computed from labels, if `instance` from instance ids",
    )
    extra: tuple[ExtraData, ...] = setting((), "more training data, as dictionaries of root, split and classes")
    weights: tuple[float, ...] = setting(
        (),
        "how often the training split and each of data.extra are sampled; if empty, every sample counts alike",
        above=0,
        most=1_000_000,
    )
    cache: str = setting("", "a folder for decoded pixels, 4 bytes each")
    check: bool = setting(True, "whether the data is checked before the first step")
    workers: int = setting(0, "the number of loading processes; 0 loads in threads", least=0, most=1024)
    synthetic: SyntheticSettings = SyntheticSettings()


@dataclasses.dataclass(frozen=True)
class NormalizationSettings:
    """What the net reads: (pixel / divisor - mean) / std. The defaults are those of the original's HRNets."""

    channels: str = setting("bgr", "the order of the channels, of mean and of std", choices=("rgb", "bgr"))
    divisor: float = setting(255.0, "pixels are divided by it", least=1, most=65_535)
    mean: tuple[float, float, float] = setting((0.485, 0.456, 0.406), "the mean of each channel", least=0, most=255)
    std: tuple[float, float, float] = setting(
        (0.229, 0.224, 0.225), "the standard deviation of each channel", least=1e-4, most=255
    )


@dataclasses.dataclass(frozen=True)
class ResizeSettings:
    """The transform `resize`. It takes a size or the length of the shorter side."""

    size: SizeOrNone = setting((), "the size", **_SIDES)
    min_side: int = setting(0, "the length of the shorter side; 0 for none", **_SIDE_OR_NONE)
    bound: int = setting(0, "the largest length of the longer side; 0 for none", **_SIDE_OR_NONE)


@dataclasses.dataclass(frozen=True)
class CollateSettings:
    """The common size of the samples of a batch."""

    mode: str = setting("fix_size", "one size, or one of several for each batch", choices=("fix_size", "multi_size"))
    size: SizeOrNone = setting((), "the size; if empty, that of augment.crop", **_SIDES)
    sizes: tuple[Size, ...] = setting((), "the sizes for multi_size", **_SIDES)
    align: str = setting("only_pad", "how samples get to it", choices=("only_pad", "only_scale", "scale_and_pad"))
    place: str = setting("random", "where a smaller sample is placed", choices=_PLACES)
    stride: int = setting(1, "sizes are rounded up to a multiple of it", unit="pixels", least=1, most=1024)


@dataclasses.dataclass(frozen=True)
class AugmentSettings:
    """The transforms of training samples."""

    chain: Names = setting(
        ("random_resize", "random_crop", "random_flip", "random_brightness"),
        "the transforms, in their order",
        choices=(*_GEOMETRY, *_COLOURS),
    )
    resize: ResizeSettings = ResizeSettings()
    scale: Range = setting((0.5, 2.0), "the range of factors of random_resize", **_FACTORS)
    aspect: Range = setting((0.9, 1.1), "the range of changes of the aspect ratio by random_resize", **_FACTORS)
    crop: Size = setting((512, 1024), "the window of random_crop and center_crop", **_SIDES)
    flip: float = setting(0.5, "the probability of random_flip", least=0, most=1)
    legacy_angle: bool = setting(
        False, "whether random_flip leaves directions of exactly 0 and 180 degrees, as the original does"
    )
    brightness: int = setting(10, "the largest shift of random_brightness", least=0, most=255)
    contrast: Range = setting((0.5, 1.5), "the range of random_contrast", **_COLOUR_FACTORS)
    saturation: Range = setting((0.5, 1.5), "the range of random_saturation", **_COLOUR_FACTORS)
    hue: float = setting(18.0, "the largest turn of random_hue", unit="degrees", least=0, most=180)
    blur: Range = setting(
        (0.1, 2.0), "the range of the sigma of random_blur", unit="pixels", above=0, most=100, ordered="range"
    )
    rotate: float = setting(10.0, "the largest angle of random_rotate", unit="degrees", least=0, most=180)
    collate: CollateSettings = CollateSettings()
    on_device: bool = setting(False, "whether images are resampled on the device; the host only decodes them")


@dataclasses.dataclass(frozen=True)
class RmiSettings:
    """The losses rmi and aux_rmi."""

    radius: int = setting(3, "the side of the regions", unit="pixels", least=1, most=64)
    pool: str = setting("max", "how maps are made smaller first", choices=("max", "average", "resize"))
    pool_size: int = setting(3, "by which factor they are made smaller", least=1, most=64)
    balance: float = setting(0.5, "the share of the binary cross-entropy, or the weight of the RMI", **_WEIGHT)
    complementary: bool = setting(True, "whether the RMI has the rest of the share")
    weight: float = setting(1.0, "the weight of the whole", above=0, most=1_000_000)


@dataclasses.dataclass(frozen=True)
class SegFixSettings:
    """The loss segfix."""

    min_distance: int = setting(0, "boundary pixels are at least this far from a boundary", unit="pixels", least=0)
    max_distance: int = setting(5, "boundary pixels are at most this far from a boundary", unit="pixels", least=0)
    mask_threshold: float = setting(
        0.5, "directions are learnt where the probability of a boundary is above this", least=0, below=1
    )
    mask_weight: float = setting(1.0, "the weight of the boundary mask", **_WEIGHT)
    direction_weight: float = setting(1.0, "the weight of the directions", **_WEIGHT)
    align_axis: bool = setting(False, "whether four directions are centred on the axes, as eight are")


@dataclasses.dataclass(frozen=True)
class Ce2pSettings:
    """The loss ce2p."""

    edge_weight: float = setting(1.0, "the weight of the edges", **_WEIGHT)
    parsing_weight: float = setting(1.0, "the weight of the parsing before the fusion", **_WEIGHT)


class LossFacts(NamedTuple):
    """What a loss asks of the config."""

    outputs: tuple[frozenset[str], ...]  # the sets of outputs of a net that it takes
    needs: tuple[str, ...] = ()  # the entries of `data.maps` that it needs
    sums: bool = False  # whether the loss of a batch is a weighted sum of the losses of its parts


_ONE, _TWO = frozenset({"out"}), frozenset({"aux", "out"})
LOSSES: dict[str, LossFacts] = {
    "ce": LossFacts((_ONE, _TWO), sums=True),
    "aux_ce": LossFacts((_TWO,), sums=True),
    "ohem": LossFacts((_ONE,)),
    "aux_ohem": LossFacts((_TWO,)),
    "rmi": LossFacts((_ONE,)),
    "aux_rmi": LossFacts((_TWO,)),
    "segfix": LossFacts((frozenset({"mask", "direction"}),), needs=("offset",)),
    "ce2p": LossFacts((frozenset({"seg_out1", "edge_out", "seg_dsn", "seg_out2"}),)),
}


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """The loss."""

    name: str = setting("aux_ce", "the loss; aux_ adds the cross-entropy of the auxiliary output", choices=LOSSES)
    class_weights: tuple[float, ...] = setting((), "the weight of each class; if empty, all count alike", **_WEIGHT)
    aux_weight: float = setting(0.4, "the weight of the auxiliary output", **_WEIGHT)
    out_weight: float = setting(1.0, "the weight of the main output", **_WEIGHT)
    ohem_threshold: float = setting(0.9, "OHEM keeps pixels whose class has a lower probability", above=0, most=1)
    ohem_min_kept: int = setting(100_000, "OHEM keeps at least as many", unit="pixels", least=0)
    rmi: RmiSettings = RmiSettings()
    segfix: SegFixSettings = SegFixSettings()
    ce2p: Ce2pSettings = Ce2pSettings()
    scope: str = setting(
        "global",
        "the loss of the whole batch, or the mean of the losses of loss.replicas equal parts, as on several GPUs",
        choices=("global", "replica"),
    )
    replicas: int = setting(4, "the number of parts: the GPUs of a published recipe", least=1)


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer."""

    name: str = setting("sgd", "the optimizer", choices=("sgd", "adam", "adamw"))
    learning_rate: float = setting(0.01, "the learning rate, before the schedule", above=0)
    momentum: float = setting(0.9, "the momentum of sgd", least=0, below=1)
    nesterov: bool = setting(False, "whether the momentum is Nesterov's")
    betas: Range = setting((0.9, 0.999), "the betas of adam and adamw", least=0, below=1)
    epsilon: float = setting(1e-8, "the epsilon of adam and adamw", above=0, most=1)
    weight_decay: float = setting(5e-4, "the weight decay", least=0, most=1000)
    decay_norms_and_biases: bool = setting(True, "whether norms and biases decay, too")
    head_multiplier: float = setting(1.0, "the factor of the learning rate for all but the backbone", **_WEIGHT)
    freeze: Names = setting((), "prefixes of parameter names that are not trained, such as backbone.conv1", filled=True)
    clip_norm: float = setting(0.0, "the largest norm of all gradients together; 0 for any", least=0)


@dataclasses.dataclass(frozen=True)
class PlateauSettings:
    """The schedule plateau."""

    factor: float = setting(0.1, "the factor by which the learning rate falls", above=0, below=1)
    patience: int = setting(10, "the number of validations without a better score that are waited for", least=0)
    threshold: float = setting(1e-4, "the share of the best score by which another must be better", least=0, most=1)
    cooldown: int = setting(0, "the number of validations after a fall that do not count", least=0)
    min_factor: float = setting(0.0, "the smallest factor", least=0, most=1)


@dataclasses.dataclass(frozen=True)
class WarmupSettings:
    """The warm-up: ((k + 1) / steps)^power, a factor of the learning rate."""

    steps: int = setting(0, "the number of steps; 0 for none", least=0)
    power: float = setting(1.0, "the power", above=0, most=100)
    freeze: bool = setting(False, "whether the factor is 0 instead")
    of: str = setting("all", "the parameters that warm up", choices=("all", "backbone", "kernels"))


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    """The schedule of the learning rate."""

    name: str = setting("poly", "the schedule", choices=_SCHEDULES)
    power: float = setting(0.9, "the power of poly", above=0, most=100)
    gamma: float = setting(0.1, "the factor of step and multistep", above=0, most=1)
    step_size: int = setting(30_000, "the number of steps between two falls of step", least=1)
    milestones: tuple[int, ...] = setting((), "the steps at which multistep falls", least=1, ordered="rising")
    plateau: PlateauSettings = PlateauSettings()
    warmup: WarmupSettings = WarmupSettings()


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The training loop."""

    batch_size: int = setting(8, "the number of images of a step, over all devices", least=1, most=65_536)
    steps: int = setting(80_000, "the number of steps", least=1)
    accumulate: int = setting(1, "the number of parts of a batch that are computed one after the other", least=1)
    ema: float = setting(0.0, "the decay of the average of the weights that is validated; 0 for none", least=0, below=1)
    frozen_norm: str = setting("", "the part whose batch norms keep their statistics", choices=("", "backbone", "all"))
    recompute: bool = setting(
        False, "whether activations of the backbone are rematerialised in the backward pass, to save memory"
    )
    log_every: int = setting(10, "the number of steps between two lines of the log", least=1)
    eval_every: int = setting(1000, "the number of steps between two validations", least=1)
    patience: int = setting(
        0, "the number of validations without a better score after which training ends; 0 for never", least=0
    )
    save_every: int = setting(1000, "the number of steps between two checkpoints", least=1)
    log_images: int = setting(4, "the number of validation images whose prediction is logged", least=0)


_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
# The testing protocols, and the fields of `inference.protocols.Protocol` in which they differ from a single scale.
PROTOCOLS: dict[str, dict] = {
    "single": {},
    "flip": {"flip": True},
    "flip_mean": {"flip": True, "mean": True},
    "ms": {"scales": _SCALES},
    "ms_flip": {"scales": _SCALES, "flip": True},
    "ms_depth": {"scales": (0.75, 1.0, 1.25, 1.5, 1.75, 2.0), "flip": True, "by_depth": True},
    "crops": {"crop": (512, 1024)},
    "ms_crops": {"scales": _SCALES, "flip": True, "crop": (512, 1024), "crop_from": 1.0},
}


@dataclasses.dataclass(frozen=True)
class EvalSettings:
    """Validation, evaluation and prediction."""

    batch_size: int = setting(4, "the number of images of a batch, over all devices", least=1, most=65_536)
    max_buckets: int = setting(4, "the number of padded shapes, each of which is compiled once", least=1)
    min_side: int = setting(0, "images are resized to a shorter side of this length; 0 for none", **_SIDE_OR_NONE)
    size: SizeOrNone = setting((), "images are resized to this size", **_SIDES)
    pad_size: SizeOrNone = setting((), "the original's padding, to this size", **_SIDES)
    pad_stride: int = setting(1, "the original's padding, to a multiple of this", unit="pixels", least=1, most=1024)
    protocol: str = setting("single", "the testing protocol (docs/protocols.md)", choices=PROTOCOLS)
    scales: tuple[float, ...] = setting((), "scales in place of those of the protocol", least=1 / 32, most=32)
    scale_weights: tuple[float, ...] = setting((), "the weight of each scale; if empty, all count alike", **_WEIGHT)
    swap: bool = setting(
        True, "whether left and right classes exchange names in mirrored images; the original's tester does not do that"
    )
    left_out: Names = setting((), "the names of classes that do not count in means, such as background")
    crop: SizeOrNone = setting((), "the window of crops and ms_crops, in place of that of the protocol", **_SIDES)
    crop_stride: SizeOrNone = setting((), "the stride of windows; if empty, their size", **_SIDES)
    crop_window: str = setting(
        "uniform", "how overlapping windows are weighted; gaussian trusts their middle", choices=("uniform", "gaussian")
    )
    exact_shapes: bool = setting(False, "whether nothing is padded, and each size compiled; to compare")
    segfix: str = setting("", "labels are refined by this folder of offsets, or by this checkpoint of a SegFix net")
    segfix_scale: int = setting(2, "the factor of the offsets", least=1, most=64)


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """The devices."""

    spatial: int = setting(1, "the number of devices that share the rows of an image", least=1)
    shard_optimizer: bool = setting(
        False, "whether momenta and averages are divided among the devices that share a batch"
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole config. `openseg_jax.config.typed` makes one of a `ConfigDict` and checks it."""

    seed: int = setting(304, "the seed of all random numbers", least=0, most=2**32 - 1)
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

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as nested dictionaries."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Returns the fields as JSON text."""
        return json.dumps(self.to_dict(), indent=2)
