"""PASCAL VOC 2012, 21 classes. The original has a loader but no recipe: this is that of PASCAL-Context.

    openseg train --config=pascal_voc:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH

Options: `ohem`; `rmi`; `v17`; `eight_gpus`; a backbone.
"""

from openseg_jax.recipes.common import SCENES, Takes, of_scenes, parse_argument

TAKES = Takes("hrnet_w48_ocr", SCENES)


def get_config(argument: str = ""):
    return of_scenes(parse_argument(argument, TAKES), "pascal_voc")
