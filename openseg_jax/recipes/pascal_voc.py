"""PASCAL VOC 2012, 21 classes. The original has a loader but no recipe: this is that of PASCAL-Context.

python train.py --config=configs/pascal_voc.py:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH
"""

from openseg_jax.recipes.common import of_scenes

RECIPE = {"learning_rate": 0.001, "head_multiplier": 10.0, "steps": 60_000, "eval_every": 5000}


def get_config(argument: str = ""):
    return of_scenes(argument, "hrnet_w48_ocr", "pascal_voc", **RECIPE)[0]
