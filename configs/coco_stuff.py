"""COCO-Stuff 10k, 171 classes: the original's recipes, on images whose shorter side is 520.

    python train.py --config=configs/coco_stuff.py:hrnet_w48_ocr,ohem --workdir=DIR --config.data.root=PATH \\
        --config.pretrained.checkpoint=hrnetv2_w48_imagenet_pretrained.pth

Options: `ohem`; `rmi`; `v17`; `eight_gpus`, the recipes of branch pytorch-1.7 on eight GPUs; a backbone.
Published, on val: hrnet_w48_ocr,ohem 39.61; hrnet_w48_ocr,ohem,v17,eight_gpus 42.50; with rmi 43.95.
"""

from configs.common import of_scenes, start


def get_config(argument: str = "hrnet_w48_ocr,ohem"):
    config, options = start(argument, "hrnet_w48_ocr,ohem", ("ohem", "rmi", "eight_gpus"))
    config.data.classes = "coco_stuff_10k"
    config.data.workers = 8
    of_scenes(config, learning_rate=0.001, head_multiplier=10.0, steps=60_000)
    config.train.eval_every = config.train.save_every = 5000
    if "eight_gpus" in options:
        config.loss.replicas = 8
        config.train.eval_every = 10_000 if "rmi" in options else 60_000
    return config
