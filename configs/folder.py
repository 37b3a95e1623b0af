"""Your own images and masks: ROOT/train/image, ROOT/train/label, ROOT/val/image, ROOT/val/label.

    python train.py --config=configs/folder.py:hrnet_w18_ocr --workdir=DIR --config.data.root=ROOT \\
        --config.data.classes=ROOT/classes.json

classes.json lists the classes: {"classes": [{"name": "road"}, {"name": "car", "id": 7, "color": [0, 0, 142]}]}.
"""

from configs.common import base, loss_for


def get_config(model: str = "hrnet_w18_ocr"):
    config = base(model)
    config.loss.name = loss_for(model)
    config.augment.crop = (512, 512)
    config.train.steps = 10_000
    return config
