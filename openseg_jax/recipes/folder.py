"""Your own images and masks: ROOT/train/image, ROOT/train/label, ROOT/val/image, ROOT/val/label.

    python -m openseg_jax.data check ROOT
    python train.py --config=configs/folder.py:hrnet_w18_ocr --workdir=DIR --config.data.root=ROOT

ROOT/classes.yaml or classes.json lists the classes; another file or a benchmark's table is given by
--config.data.classes. docs/your-data.md goes through all of it.
"""

from openseg_jax.recipes.common import base, loss_for


def get_config(model: str = "hrnet_w18_ocr"):
    config = base(model)
    config.loss.name = loss_for(model)
    config.augment.crop = (512, 512)
    config.train.steps = 10_000
    return config
