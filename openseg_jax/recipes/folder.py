"""Your own images and masks: ROOT/train/image, ROOT/train/label, ROOT/val/image, ROOT/val/label.

    openseg data check ROOT
    openseg train --config=folder:hrnet_w18_ocr --workdir=DIR --config.data.root=ROOT

ROOT/classes.yaml or classes.json lists the classes; another file or a benchmark's table is given by
--config.data.classes. docs/your-data.md goes through all of it.
"""

from openseg_jax.recipes.common import Takes, base, parse_argument

TAKES = Takes("hrnet_w18_ocr")


def get_config(argument: str = ""):
    options = parse_argument(argument, TAKES)
    config = base(options.name, options.backbone)
    config.augment.crop = (512, 512)
    config.train.steps = 10_000
    return config
