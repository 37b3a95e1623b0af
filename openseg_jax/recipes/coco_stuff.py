"""COCO-Stuff 10k, 171 classes: the original's recipes, on images whose shorter side is 520.

    openseg train --config=coco_stuff:hrnet_w48_ocr,ohem --workdir=DIR --config.data.root=PATH \\
        --config.pretrained.checkpoint=hrnetv2_w48_imagenet_pretrained.pth

Options: `ohem`; `rmi`; `v17`; `eight_gpus`, the recipes of branch pytorch-1.7 on eight GPUs; a backbone.
Published, on val: hrnet_w48_ocr,ohem 39.61; hrnet_w48_ocr,ohem,v17,eight_gpus 42.50; with rmi 43.95.
"""

from openseg_jax.recipes.common import SCENES, Takes, of_scenes, parse_argument

TAKES = Takes("hrnet_w48_ocr,ohem", SCENES)


def get_config(argument: str = ""):
    options = parse_argument(argument, TAKES)
    config = of_scenes(options, "coco_stuff_10k")
    if "eight_gpus" in options:
        config.train.eval_every = 10_000 if "rmi" in options else 60_000
    return config
