"""PASCAL VOC 2012, 21 classes. The original has a loader but no recipe: this is that of PASCAL-Context.

python train.py --config=configs/pascal_voc.py:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH
"""

from configs.common import of_scenes, start


def get_config(argument: str = "hrnet_w48_ocr"):
    config, _ = start(argument, "hrnet_w48_ocr", ("ohem", "rmi"))
    config.data.classes = "pascal_voc"
    config.data.workers = 8
    of_scenes(config, learning_rate=0.001, head_multiplier=10.0, steps=60_000)
    config.train.eval_every = config.train.save_every = 5000
    return config
