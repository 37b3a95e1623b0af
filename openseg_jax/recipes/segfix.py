"""SegFix, which learns where boundaries are and which direction leads off them: the original's recipes.

    openseg train --config=segfix:cityscapes,hrnet2x_w20 --workdir=DIR --config.data.root=PATH

The first word is the data set: cityscapes, ade20k, camvid or folder. Options: a backbone, such as hrnet_w18, hrnet_w32,
hrnet_w48 (if none is given) or hrnet2x_w20; `instance` for boundaries of instances; `trainval`; `ade20k_too` for
Cityscapes and ADE20K together, whose root is --config.data.extra; `v17`; `small` for images like CamVid's on a CPU
(docs/segfix.md). Distances and directions are computed from the labels, or, with `instance`, from SPLIT/instance;
--config.data.offset_folder=offset_gt/dt_offset reads the original's files.
"""

from openseg_jax.errors import InputError
from openseg_jax.recipes.common import Takes, of_original, parse_argument

CLASSES = {"cityscapes": "cityscapes", "ade20k": "ade20k", "camvid": "camvid", "folder": ""}
TAKES = Takes("cityscapes", ("v17", "instance", "trainval", "ade20k_too", "small"), tuple(CLASSES), "data set")


def get_config(argument: str = ""):
    name, comma, words = argument.partition(",")
    words = words.replace("hrnet_w", "hrnet").replace("hrnet2x_w", "hrnet2x")  # the names in model names are known, too
    options = parse_argument(f"{name}{comma}{words}", TAKES)
    name = options.name
    if "ade20k_too" in options and name != "cityscapes":
        raise InputError(f"the option ade20k_too is for cityscapes, found {name}")
    config = of_original("segfix_hrnet", options)
    config.data.update(classes=CLASSES[name], workers=8)
    config.augment.update(chain=("random_crop", "random_flip", "random_brightness"), crop=(512, 512))
    if name == "ade20k":
        config.augment.chain = ("random_flip", "resize", "random_crop", "random_brightness")
        config.augment.resize.min_side = 512
    config.optimizer.learning_rate = 0.04
    config.train.update(batch_size=16, steps=80_000, eval_every=2000, save_every=2000)
    if "trainval" in options:
        config.data.extra = ({"split": "val"},)
        config.train.steps = 120_000 if config.model.backbone == "hrnet2x20" else 80_000
    if "instance" in options:
        config.data.offset_folder = "instance"
        config.train.steps = 20_000
    if "ade20k_too" in options:
        config.data.update(extra=({"root": "ADE20K", "classes": "ade20k"},), weights=(1.0, 1.0))
        config.train.update(steps=100_000, eval_every=1000, save_every=1000)
    if "small" in options:
        config.augment.crop = (192, 256)
        config.optimizer.learning_rate = 0.02
        config.train.update(batch_size=8, steps=1000, eval_every=250, save_every=250)
    return config
