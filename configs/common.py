"""What all configs share. A data set's file changes what is its own, and the command line may change any field."""

from __future__ import annotations

from ml_collections import ConfigDict, config_dict

from openseg_jax import models


def base(model: str) -> ConfigDict:
    """Every field there is, with the values of the original's HRNet recipes where they have one.

    model: a named model; `python -c "from openseg_jax import models; print(*models.MODELS)"` lists them.
    """
    return ConfigDict(
        {
            "seed": 304,
            "model": {
                "name": model,
                "backbone": "",  # another than the model's own
                "norm": "batch_norm",
                "dtype": "float32",  # or bfloat16
                "options": _model_options(model),  # keyword arguments of backbone and head
            },
            "pretrained": {
                "checkpoint": "",  # a folder, such as `python -m converters import` writes
                "parts": "backbone",  # or all
            },
            "data": {
                "source": "folder",  # ROOT/SPLIT/image and ROOT/SPLIT/label; or synthetic
                "root": "",
                "classes": "",  # a table of openseg_jax/data/tables, or a file; if empty, ROOT/classes.yaml or .json
                "train_split": "train",
                "val_split": "val",
                "image_folder": "image",  # of each split
                "label_folder": "label",
                "maps": (),  # edge, offset: what else a sample has
                "extra": (),  # more training data: dictionaries of root, split and classes, each as above if left out
                "weights": (),  # of the training split and each extra; none joins them, and every sample counts alike
                "cache": "",  # a folder for decoded pixels, 4 bytes each
                "check": True,  # look at the data before the first step
                "workers": 0,  # processes that load; 0 loads in threads
            },
            "normalization": {
                "channels": "bgr",  # the original's HRNets apply the RGB mean to BGR pixels
                "divisor": 255.0,
                "mean": (0.485, 0.456, 0.406),
                "std": (0.229, 0.224, 0.225),
            },
            "augment": {
                "chain": ("random_resize", "random_crop", "random_flip", "random_brightness"),
                "resize": {"size": (), "min_side": 0, "bound": 0},  # one of the first two; bound: of the longer side
                "scale": (0.5, 2.0),
                "aspect": (0.9, 1.1),
                "crop": (512, 1024),  # height, width
                "flip": 0.5,
                "brightness": 10,
                "contrast": (0.5, 1.5),
                "saturation": (0.5, 1.5),
                "hue": 18.0,  # degrees
                "blur": (0.1, 2.0),  # sigma in pixels
                "rotate": 10.0,  # degrees
                "collate": {
                    "mode": "fix_size",  # or multi_size
                    "size": (),  # that of the crop
                    "sizes": (),  # for multi_size
                    "align": "only_pad",  # only_scale, scale_and_pad
                    "place": "random",  # pad_right_down, pad_left_up, pad_center, pad_border
                    "stride": 1,
                },
                "on_device": False,  # resample there; the host only decodes
            },
            "loss": {
                "name": "aux_ce",  # ce, aux_ce, ohem, aux_ohem
                "class_weights": (),
                "aux_weight": 0.4,
                "out_weight": 1.0,
                "ohem_threshold": 0.9,
                "ohem_min_kept": 100_000,
                "replicas": 1,  # parts of the batch whose losses are averaged: the GPUs of a published recipe
            },
            "optimizer": {
                "learning_rate": 0.01,
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "head_multiplier": 1.0,  # of the learning rate, for all but the backbone
                "power": 0.9,
            },
            "train": {
                "batch_size": 8,  # over all devices
                "steps": 80_000,
                "log_every": 10,
                "eval_every": 1000,
                "save_every": 1000,
            },
            "eval": {
                "batch_size": 4,
                "max_buckets": 4,  # padded shapes, each one compilation
                "min_side": 0,  # resize so that the shorter side is this; 0 keeps the size
            },
            "mesh": {
                "spatial": 1,  # devices that share the rows of an image; the others share the batch
            },
        }
    )


def _model_options(model: str) -> dict:
    options = models.default_options(model)
    kinds = {"multi_grid": tuple}  # of options that are None unless given; the others are numbers
    return {
        name: config_dict.placeholder(kinds.get(name, int)) if value is None else value
        for name, value in options.items()
    }


def loss_for(model: str) -> str:
    """Nets with an auxiliary output, all but HRNet with an FCN head, are trained on both."""
    return "ce" if model.startswith("hrnet_w") and "ocr" not in model else "aux_ce"
