"""ADE20K, 150 classes: the original's recipes, on images whose shorter side is 520.

    openseg train --config=ade20k:hrnet_w48_ocr,ohem --workdir=DIR --config.data.root=PATH \\
        --config.pretrained.checkpoint=hrnetv2_w48_imagenet_pretrained.pth

Options: `ohem`; `rmi`; `v17`; `eight_gpus`, the recipes from the ImageNet weights of PaddleClas; a backbone.
Published, on val: hrnet_w48_ocr,ohem 44.62; hrnet_w48_ocr,rmi,v17,eight_gpus 46.59.
"""

from openseg_jax.recipes.common import SCENES, Takes, of_scenes, parse_argument

TAKES = Takes("hrnet_w48_ocr,ohem", SCENES)


def get_config(argument: str = ""):
    config = of_scenes(parse_argument(argument, TAKES), "ade20k")
    config.optimizer.update(learning_rate=0.02, head_multiplier=1.0)
    config.train.update(steps=150_000, eval_every=10_000, save_every=10_000)
    return config
