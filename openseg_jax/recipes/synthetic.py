"""The synthetic textures, made in memory: `make demo`, and the first thing to try. No download.

openseg train --config=synthetic --workdir=runs/demo

"""

from openseg_jax.recipes.common import Takes, base, parse_argument

TAKES = Takes("hrnet_w18_small_v1_ocr")


def get_config(argument: str = ""):
    options = parse_argument(argument, TAKES)
    config = base(options.name, options.backbone)
    config.model.options.update(width=8, blocks=1, layer1_width=16, channels=64, key_channels=32, aux_channels=32)
    config.data.source = "synthetic"
    config.augment.update(crop=(80, 112), scale=(0.75, 1.5))
    config.optimizer.update(learning_rate=0.05, weight_decay=1e-4)
    config.train.update(batch_size=8, steps=500, eval_every=250, save_every=250)
    config.eval.batch_size = 8
    return config
