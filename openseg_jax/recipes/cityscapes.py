"""Cityscapes, 19 classes: the original's recipes, crops of 512x1024, tested at 1024x2048.

    openseg train --config=cityscapes:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH \\
        --config.pretrained.checkpoint=hrnetv2_w48_imagenet_pretrained.pth

PATH holds train/image, train/label, val/image and val/label, labels as *_labelIds.png (docs/datasets.md).
Options, after the model: `ohem`; `rmi`; `trainval` adds the validation split; `v17` for the recipes of branch
pytorch-1.7; a backbone. `coarse`, `from_mapillary` and `from_coarse` are stages of the chain in docs/recipes.md.

Published, on val: hrnet_w48_ocr 81.09, spatial_ocrnet 79.63, isanet 79.55, base_ocnet 79.49, spatial_asp_ocrnet 79.89;
hrnet_w48_ocr,v17 81.53; hrnet_w48_ocr,rmi,v17 82.57, the last two from other ImageNet weights (docs/recipes.md).
"""

from openseg_jax.labels.classes import CLASS_WEIGHTS
from openseg_jax.recipes.common import Takes, of_original, parse_argument

STAGES = {  # learning rate, batch, steps
    "from_mapillary": (1e-3, 8, 120_000),
    "coarse": (1e-4, 16, 50_000),
    "from_coarse": (1e-4, 8, 20_000),
}
TAKES = Takes("hrnet_w48_ocr", ("v17", "ohem", "rmi", "trainval", *STAGES))


def get_config(argument: str = ""):
    options = parse_argument(argument, TAKES)
    config = of_original(options.name, options)
    model, v17 = config.model.name, "v17" in options
    config.data.update(classes="cityscapes", workers=8)
    config.loss.class_weights = () if "rmi" in options else CLASS_WEIGHTS["cityscapes"]
    config.train.update(batch_size=16 if v17 else 8, steps=80_000 if model.startswith("hrnet") else 40_000)
    if v17 and model == "hrnet_w48_ocr":  # eight GPUs
        config.optimizer.learning_rate, config.train.steps, config.loss.replicas = 0.02, 40_000, 8
    if "trainval" in options or STAGES.keys() & options.options - {"coarse"}:
        config.data.extra = ({"split": "val"},)
    if "trainval" in options:
        longer = v17 and "ohem" in options
        config.train.steps = 80_000 if longer else 100_000
        if not longer:  # the same in both branches
            config.optimizer.learning_rate, config.train.batch_size, config.loss.replicas = 0.01, 8, 4
    if "coarse" in options:
        config.data.train_split = "coarse"
        config.train.frozen_norm = "all"  # as the model zoo says; the code has no switch for it
    for stage in STAGES.keys() & options.options:
        config.optimizer.learning_rate, config.train.batch_size, config.train.steps = STAGES[stage]
        config.train.update(eval_every=2000, save_every=2000)
        config.pretrained.parts = "matching"
    return config
