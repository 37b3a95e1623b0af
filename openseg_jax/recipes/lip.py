"""LIP, 20 classes of human parsing: the original's recipes, on images resized to 473x473.

    openseg train --config=lip:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH \\
        --config.pretrained.checkpoint=hrnetv2_w48_imagenet_pretrained.pth

Options: `rmi`; `v17`; `eight_gpus`, the recipe from the ImageNet weights of PaddleClas; a backbone. `ce2p_asp_ocrnet`,
`ce2p_ocrnet` and `ce2p_ideal_ocrnet` learn edges, too, from SPLIT/edge or, with --config.data.maps="()", labels.
Published, on val, flipped and averaged: hrnet_w48_ocr 56.72; hrnet_w48_ocr,v17,eight_gpus 57.87.
"""

from openseg_jax.recipes.common import RESIZED, Takes, of_original, parse_argument

TAKES = Takes("hrnet_w48_ocr", ("v17", "rmi", "eight_gpus"))


def get_config(argument: str = ""):
    options = parse_argument(argument, TAKES)
    config = of_original(options.name, options)
    config.data.update(classes="lip", workers=8)
    config.augment.update(chain=RESIZED, scale=(0.5, 1.5))
    config.augment.resize.size = config.augment.crop = config.eval.size = (473, 473)
    config.optimizer.learning_rate = 0.007
    config.train.update(batch_size=32, steps=100_000, eval_every=10_000, save_every=10_000)
    if "resnet" in (config.model.backbone or config.model.name) or config.model.name.startswith("ce2p"):
        config.normalization.mean = (104.00698793, 116.66876762, 122.67891434)
    if config.model.name.startswith("ce2p"):
        config.data.maps = ("edge",)
    return config
