"""What all configs share. A data set's file changes what is its own, and the command line may change any field."""

from __future__ import annotations

from ml_collections import ConfigDict, config_dict

from openseg_jax import models
from openseg_jax.evaluation.inference import DEFAULTS


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
                "checkpoint": "",  # a folder of a run or an import, or a PyTorch file
                "parts": "backbone",  # all, matching
            },
            "data": {
                "source": "folder",  # ROOT/SPLIT/image and ROOT/SPLIT/label; or synthetic
                "root": "",
                "classes": "",  # a table of openseg_jax/labels/tables, or a file; if empty, ROOT/classes.yaml or .json
                "train_split": "train",
                "val_split": "val",
                "image_folder": "image",  # of each split
                "label_folder": "label",
                "maps": (),  # edge, offset, stereo: what else a sample has
                "offset_folder": "",  # of each split; "" computes offsets from labels, "instance" from instance/
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
                "legacy_angle": False,  # as in the original, directions of exactly 0 and 180 degrees are not mirrored
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
                "name": "aux_ce",  # ce, ohem, rmi, each also with aux_; segfix, ce2p
                "class_weights": (),
                "aux_weight": 0.4,
                "out_weight": 1.0,
                "ohem_threshold": 0.9,
                "ohem_min_kept": 100_000,
                "rmi": {
                    "radius": 3,
                    "pool": "max",
                    "pool_size": 3,
                    "balance": 0.5,
                    "complementary": True,
                    "weight": 1.0,
                },
                "segfix": {
                    "min_distance": 0,  # from a class boundary, in pixels, between which a pixel is of the boundary
                    "max_distance": 5,
                    "mask_threshold": 0.5,
                    "mask_weight": 1.0,
                    "direction_weight": 1.0,
                    "align_axis": False,
                },
                "ce2p": {"edge_weight": 1.0, "parsing_weight": 1.0},
                "scope": "global",  # or replica: the mean of the losses of equal parts of the batch, as on several GPUs
                "replicas": 4,  # so many parts: the GPUs of a published recipe
            },
            "optimizer": {
                "name": "sgd",  # sgd, adam, adamw
                "learning_rate": 0.01,
                "momentum": 0.9,
                "nesterov": False,
                "betas": (0.9, 0.999),  # of adam and adamw
                "epsilon": 1e-8,
                "weight_decay": 5e-4,
                "decay_norms_and_biases": True,
                "head_multiplier": 1.0,  # of the learning rate, for all but the backbone
                "freeze": (),  # beginnings of the names of parameters that stay: ("backbone.conv1", "backbone.layer1")
                "clip_norm": 0.0,  # the largest norm of all gradients together; 0 for any
            },
            "schedule": {
                "name": "poly",  # cosine, step, multistep, constant, plateau, swa_poly, swa_cosine
                "power": 0.9,  # of poly
                "gamma": 0.1,  # of step and multistep
                "step_size": 30_000,
                "milestones": (),
                # after so many validations without a better score; threshold: the share by which it must be better
                "plateau": {"factor": 0.1, "patience": 10, "threshold": 1e-4, "cooldown": 0, "min_factor": 0.0},
                # ((k + 1) / steps)^power, or 0 with freeze, of all, backbone or kernels
                "warmup": {"steps": 0, "power": 1.0, "freeze": False, "of": "all"},
            },
            "train": {
                "batch_size": 8,  # over all devices
                "steps": 80_000,
                "accumulate": 1,  # parts into which a batch is divided, one after the other
                "ema": 0.0,  # decay of an average of the weights, which is then validated; 0 for none
                "frozen_norm": "",  # backbone or all: batch norms that keep their statistics
                "recompute": False,  # less memory: activations of the backbone are computed again in the backward pass
                "log_every": 10,
                "eval_every": 1000,
                "save_every": 1000,
                "log_images": 4,  # validation images whose prediction is logged
            },
            "eval": dict(DEFAULTS),  # openseg_jax/evaluation/inference.py
            "mesh": {
                "spatial": 1,  # devices that share the rows of an image; the others share the batch
                "shard_optimizer": False,  # momenta and averages in parts, one on each device of the batch
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


def start(argument: str, default: str, known: tuple[str, ...] = ()) -> tuple[ConfigDict, set[str]]:
    """The config of "MODEL[,OPTION...]", with the original's norm, loss and normalisation, and the options.

    Of the options, one that is the name of a backbone takes that backbone. `v17` is known everywhere: the recipe of
    the original's branch pytorch-1.7, whose norm is plain batch norm, in place of that of branch master.
    """
    model, *options = (argument or default).split(",")
    backbones = [option for option in options if option in models.BACKBONES]
    options = {option for option in options if option not in models.BACKBONES}
    known = ("v17", *known)
    for option in options - set(known):
        raise ValueError(f"unknown option {option!r}; there are {', '.join(known)}, and the names of backbones")
    config = base(model)
    config.model.backbone = backbones[0] if backbones else ""
    config.model.norm = "batch_norm" if "v17" in options else "inplace_abn"
    config.normalization.update(normalization_for(config.model.backbone or models.MODELS[model].backbone))
    config.loss.name = loss_for(model)
    config.loss.update({"scope": "replica", "replicas": 4})
    if "ohem" in options:
        config.loss.name = config.loss.name.replace("ce", "ohem")
    if "rmi" in options:
        config.loss.name = config.loss.name.replace("ce", "rmi")
    return config, options


def normalization_for(backbone: str) -> dict:
    """Of the original's checkpoints: ImageNet's on HRNet, on ResNets the mean of Caffe's nets, both on BGR pixels."""
    if "hrnet" in backbone or "wide" in backbone:
        return {}
    return {"divisor": 1.0, "mean": (102.9801, 115.9465, 122.7717), "std": (1.0, 1.0, 1.0)}


RESIZED = ("random_flip", "resize", "random_resize", "random_crop", "random_brightness")


def of_scenes(
    argument: str,
    default: str,
    classes: str,
    *,
    learning_rate: float,
    head_multiplier: float,
    steps: int,
    eval_every: int,
) -> tuple[ConfigDict, set[str]]:
    """`start`, and what ADE20K, PASCAL-Context and COCO-Stuff have in common: shorter side 520, crops of 520x520.

    Of the options, `eight_gpus` is for the recipes of branch pytorch-1.7 that ran on as many.
    """
    config, options = start(argument, default, ("ohem", "rmi", "eight_gpus"))
    config.data.classes = classes
    config.data.workers = 8
    config.augment.chain = RESIZED
    config.augment.resize.min_side = config.eval.min_side = 520
    config.augment.crop = (520, 520)
    config.optimizer.update({"learning_rate": learning_rate, "head_multiplier": head_multiplier, "weight_decay": 1e-4})
    config.train.batch_size = 16
    config.train.steps = steps
    config.train.eval_every = config.train.save_every = eval_every
    if "eight_gpus" in options:
        config.loss.replicas = 8
    return config, options


def loss_for(model: str) -> str:
    """Nets with an auxiliary output, all but HRNet with an FCN head, are trained on both."""
    if model.startswith(("ce2p", "segfix")):
        return model.partition("_")[0]
    return "ce" if model.startswith("hrnet_w") and "ocr" not in model else "aux_ce"
