"""CamVid, 11 classes, 480x360: a small driving data set, for trying things out.

    openseg train --config=camvid:hrnet_w18_ocr --workdir=runs/camvid --config.data.root=PATH

PATH holds train/image, train/label, val/image and val/label with class ids 0 to 10, 255 or 11 for void.
Options: `small`, as in camvid:hrnet_w18_small_v1_ocr,small, a recipe for a CPU (docs/benchmarks.md); a backbone.
"""

from openseg_jax.recipes.common import Takes, base, parse_argument

TAKES = Takes("hrnet_w18_ocr", ("small",))


def get_config(argument: str = ""):
    options = parse_argument(argument, TAKES)
    config = base(options.name, options.backbone)
    config.data.classes = "camvid"
    config.augment.crop = (320, 448)
    config.optimizer.learning_rate = 0.02
    config.train.update(batch_size=16, steps=4000, eval_every=500, save_every=500)
    config.eval.batch_size = 8
    if "small" in options:
        config.model.options.update(channels=128, key_channels=64, aux_channels=64)
        config.augment.update(crop=(160, 224), scale=(0.4, 1.0))
        config.train.update(batch_size=8, steps=1500, eval_every=300, save_every=300)
    return config
