"""ADE20K, 150 classes: the original's recipes, on images whose shorter side is 520.

    python train.py --config=configs/ade20k.py:hrnet_w48_ocr,ohem --workdir=DIR --config.data.root=PATH \\
        --config.pretrained.checkpoint=hrnetv2_w48_imagenet_pretrained.pth

Options: `ohem`; `rmi`; `v17`; `eight_gpus`, the recipes from the ImageNet weights of PaddleClas; a backbone.
Published, on val: hrnet_w48_ocr,ohem 44.62; hrnet_w48_ocr,rmi,v17,eight_gpus 46.59.
"""

from openseg_jax.recipes.common import of_scenes

RECIPE = {"learning_rate": 0.02, "head_multiplier": 1.0, "steps": 150_000, "eval_every": 10_000}


def get_config(argument: str = ""):
    return of_scenes(argument, "hrnet_w48_ocr,ohem", "ade20k", **RECIPE)[0]
