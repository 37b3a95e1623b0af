"""Files of instance predictions for tests."""

import json

import numpy as np

from openseg_jax.data.images import write_image
from openseg_jax.files import write_text


def write_cityscapes(folder, name, instances, masks):
    """Writes the list of an image and its masks, (H, W) and not 0 on the instance; on disk they are 255 there."""
    for instance, mask in zip(instances, masks, strict=True):
        write_image(folder / instance.mask, (mask > 0).astype(np.uint8) * 255)
    lines = [f"{instance.mask} {instance.label} {instance.score}\n" for instance in instances]
    write_text(folder / f"{name}_pred.txt", "".join(lines))


def write_coco(path, predictions):
    write_text(path, json.dumps(predictions))
