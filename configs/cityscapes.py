"""Cityscapes, 19 classes: the original's recipe for HRNet (train on train, test at 1024x2048, single scale).

    python train.py --config=configs/cityscapes.py:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH \\
        --config.pretrained.checkpoint=IMAGENET_DIR

PATH is the original's prepared layout: train/image, train/label, val/image, val/label, labels as *_labelIds.png.
The published recipe takes four GPUs, batch 8 and 80,000 steps, and reaches 81.09 mIoU with hrnet_w48_ocr.
"""

from configs.common import base, loss_for

CLASS_WEIGHTS = (
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023,
    0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
)  # fmt: skip


def get_config(model: str = "hrnet_w48_ocr"):
    config = base(model)
    config.data.classes = "cityscapes"
    config.data.workers = 8
    config.loss.name = loss_for(model)
    config.loss.class_weights = CLASS_WEIGHTS
    config.loss.replicas = 4
    return config
