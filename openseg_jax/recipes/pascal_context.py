"""PASCAL-Context, 59 classes: the original's recipes, on images whose shorter side is 520.

    openseg train --config=pascal_context:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH \\
        --config.pretrained.checkpoint=hrnetv2_w48_imagenet_pretrained.pth

Options: `ohem`; `rmi`; `v17`; `eight_gpus`, the recipes from the ImageNet weights of PaddleClas; a backbone.
Published, on val: hrnet_w48_ocr 55.11; hrnet_w48_ocr,v17,eight_gpus 57.82; with rmi 58.53.
"""

from openseg_jax.recipes.common import SCENES, Takes, of_scenes, parse_argument

TAKES = Takes("hrnet_w48_ocr", SCENES)


def get_config(argument: str = ""):
    options = parse_argument(argument, TAKES)
    config = of_scenes(options, "pascal_context_59")
    if not options.name.startswith("hrnet"):
        config.train.steps = 30_000
    if "eight_gpus" in options:
        config.train.eval_every = 10_000 if "rmi" in options else 60_000
    return config
