"""Mapillary Vistas 1.1, 65 classes: what the original's best Cityscapes nets were trained on first.

    openseg train --config=mapillary:hrnet_w48_ocr_b --workdir=DIR --config.data.root=PATH \\
        --config.pretrained.checkpoint=hrnetv2_w48_imagenet_pretrained.pth

Options: `ohem`; `v17`; a backbone.
Published, on val: hrnet_w48_ocr_b 50.8. docs/recipes.md goes on to Cityscapes from here.
"""

from openseg_jax.recipes.common import Takes, of_original, parse_argument

TAKES = Takes("hrnet_w48_ocr_b", ("v17", "ohem"))


def get_config(argument: str = ""):
    options = parse_argument(argument, TAKES)
    config = of_original(options.name, options)
    config.data.update(classes="mapillary", workers=8)
    config.augment.chain = ("resize", "random_resize", "random_crop", "random_flip", "random_brightness")
    config.augment.resize.min_side = config.eval.min_side = 1024
    config.augment.crop = (1024, 1024)
    config.train.update(batch_size=16, steps=500_000, eval_every=5000, save_every=5000)
    return config
