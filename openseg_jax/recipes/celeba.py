"""CelebAMask-HQ, 19 classes of face parsing: the original's recipes, at 512x512.

    openseg train --config=celeba:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH \\
        --config.pretrained.checkpoint=hrnetv2_w48_imagenet_pretrained.pth

Options: `ohem`; `rmi`; `v17`; a backbone.
The original also trained the whole net with learning rates of 0.001 to 0.02: --config.optimizer.head_multiplier=1
--config.optimizer.learning_rate=0.01, on branch pytorch-1.7 (`v17`) with --config.train.steps=200000.
"""

from openseg_jax.recipes.common import RESIZED, Takes, of_original, parse_argument

TAKES = Takes("hrnet_w48_ocr", ("v17", "ohem", "rmi"))


def get_config(argument: str = ""):
    options = parse_argument(argument, TAKES)
    config = of_original(options.name, options)
    config.data.update(classes="celeba", workers=8)
    config.augment.chain = RESIZED
    config.augment.resize.size = config.augment.crop = config.eval.size = (512, 512)
    config.optimizer.update(learning_rate=0.001, head_multiplier=10.0, weight_decay=1e-4)
    config.train.update(batch_size=16, steps=150_000, eval_every=2000, save_every=2000)
    return config
