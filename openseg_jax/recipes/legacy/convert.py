"""Configs of openseg.pytorch: its options become fields of a config, and these a Python file."""

import argparse
import difflib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from openseg_jax import files, models
from openseg_jax.config import typed
from openseg_jax.errors import InputError
from openseg_jax.recipes.common import base
from openseg_jax.recipes.legacy.options import Options, assign, read_options
from openseg_jax.text import short

DATASETS = ("ade20k", "celeba", "cityscapes", "coco_stuff", "lip", "mapillary", "pascal_context", "pascal_voc")
NORMS = {
    **dict.fromkeys(("torchbn", "torchsyncbn", "syncbn"), "batch_norm"),
    "inplace_abn": "inplace_abn",
    "gn": "group_norm",
}
LOSSES = {
    "fs_ce_loss": "ce",
    "fs_ohemce_loss": "ohem",
    "fs_auxce_loss": "aux_ce",
    "fs_auxohemce_loss": "aux_ohem",
    "rmi_loss": "rmi",
    "fs_aux_rmi_loss": "aux_rmi",
    "segfix_loss": "segfix",
    "ce2p_auxce_loss": "ce2p",
}
POLICIES = ("lambda_poly", "lambda_cosine", "step", "multistep", "plateau", "swa_lambda_poly", "swa_lambda_cosine")
_DOCSTRING = '"""A config of openseg.pytorch, as `openseg convert config` wrote it."""'
# Options of the JSON files that have no effect in the original either, or that the class table has here.
DEAD = (
    "dataset", "method", "test", "logging", "checkpoints", "details", "phase", "use_ground_truth", "data.image_tool",
    "data.num_classes", "data.label_list", "data.reduce_zero_label", "data.drop_last", "data.only_small",
    "network.stride", "network.loss_weights.corr_loss", "normalize.mean_value", "lr.metric", "val.mode",
    "val.only_small", "val.scale_search", "loss.params", "loss.weight_", "solver.save_iters", "train.loader",
    "val.loader", "val.data_transformer", "train_trans", "val_trans", "optim.adam", "optim.sgd", "lr.step", "lr.warm",
    "lr.multistep", "lr.plateau", "network.pretrained_model",
)  # fmt: skip


def import_config(path: str | Path, flags: argparse.Namespace, out: str | Path, command: str) -> list[str]:
    """Writes the config file that trains what openseg.pytorch trains with a JSON file and the flags of its main.py.

    The file needs nothing but this package. Environment variables that change a training of the original
    (lambda_poly_power, mask_weight, dt_num_classes, ...) count, too.

    Args:
        path: The JSON file.
        flags: The flags of `options.add_flags`.
        out: The Python file to write, which must not exist.
        command: The command that did it, for a comment.

    Returns:
        Remarks on what is not the same, or not taken over.

    Raises:
        InputError: If the options cannot be read, or do not give a config that can be trained.
    """
    out = Path(out)
    if out.exists():
        raise InputError(f"{out} exists: give another file")
    try:
        model, fields, remarks = _convert(read_options(Path(path), flags), os.environ)
        config = base(model).to_dict()
        for name, value in fields.items():
            assign(config, name, value)
        typed(config)
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except (AttributeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        says = f"{type(error).__name__}: {short(str(error))}"
        raise InputError(f"{path} is not as openseg.pytorch has it: {says}") from error
    files.write_text(out, source_of(model, fields, [f"{Path(path).name} of openseg.pytorch.", command], remarks))
    return remarks


def source_of(model: str, fields: dict, lines: list[str], remarks: list[str]) -> str:
    """Returns the text of a config file, whatever the strings in it are.

    What comes from outside is in literals, or in comments of one line each. They stand below a docstring, where Python
    no longer looks for a comment that names the encoding of the file.
    """
    if remarks:
        lines = [*lines, "Not the same, or not taken over:", *(f"* {remark}" for remark in remarks)]
    comments = "\n".join("# " + "".join(c if c.isprintable() else " " for c in line) for line in lines)
    body = "\n".join(f"    config.{name} = {value!r}" for name, value in fields.items())
    return f"""{_DOCSTRING}
{comments}

from openseg_jax.recipes.common import base


def get_config():
    config = base({model!r})
{body}
    return config
"""


def _convert(options: Options, environment: Mapping[str, str]) -> tuple[str, dict, list[str]]:
    """Returns the named model, fields by their dotted names, and remarks on what is not the same, or not taken over."""
    remarks: list[str] = []
    model = _known(options.get("network.model_name"), models.MODELS, "model")
    fields = {
        "seed": options.get("seed", 304),
        **_network(options, environment, model, remarks),
        **_data(options, environment, remarks),
        **_augmentation(options, remarks),
        **_loss(options, environment),
        **_optimization(options, environment),
    }
    for name in DEAD:  # counts as read
        options.get(name)
    remarks += [f"{name} is not taken over" for name in options.unread()]
    return model, fields, remarks


def _network(options: Options, environment, model: str, remarks: list[str]) -> dict:
    backbone = _known(options.get("network.backbone"), models.BACKBONES, "backbone")
    norm = NORMS[_known(options.get("network.bn_type", "torchbn"), NORMS, "bn_type")]
    own = models.MODELS[model].backbone
    fields = {"model.backbone": "" if backbone == own else backbone, "model.norm": norm}
    if "hrnet" in backbone and "2x" not in backbone:
        remarks.append(
            "the norm of an HRNet is fixed in the original, inplace_abn on master: set model.norm accordingly"
        )
    defaults = models.default_options(model, backbone)
    multi_grid = options.get("network.multi_grid")
    if multi_grid and set(multi_grid) != {1} and "multi_grid" in defaults:
        fields["model.options.multi_grid"] = tuple(multi_grid)
    factors = options.get("network.factors")
    if factors and "factors" in defaults:
        fields["model.options.factors"] = tuple(map(tuple, factors))
    for switch in ("drop_stage4", "full_res_stem", "keep_imagenet_head"):
        if environment.get(switch):
            fields[f"model.options.{switch}"] = True
    if "dt_num_classes" in environment and "num_directions" in defaults:
        fields["model.options.num_directions"] = int(environment["dt_num_classes"])
    if options.get("network.pretrained"):
        fields |= {"pretrained.checkpoint": options.get("network.pretrained"), "pretrained.parts": "backbone"}
    resume, strict = options.get("network.resume"), options.get("network.resume_strict")
    goes_on = options.get("network.resume_continue")
    evaluates = any([options.get("network.resume_train"), options.get("network.resume_val")])
    if resume and goes_on:
        remarks.append("resume_continue: start train.py again with the same --workdir; nothing is to be set")
    elif resume:
        if evaluates:
            remarks.append(f"with these flags the original only evaluates {resume}; here training starts from it")
        fields |= {"pretrained.checkpoint": resume, "pretrained.parts": "all" if strict else "matching"}
    return fields


def _data(options: Options, environment, remarks: list[str]) -> dict:
    classes = _known(options.get("dataset"), DATASETS, "dataset")
    if classes == "pascal_context":
        classes = "pascal_context_60" if options.get("data.num_classes") == 60 else "pascal_context_59"
    elif classes == "coco_stuff":
        classes = "coco_stuff_10k"
    roots = options.get("data.data_dir", "")
    roots = [roots] if isinstance(roots, str) else roots
    fields = {"data.classes": classes, "data.root": roots[0], "data.workers": options.get("data.workers", 0)}
    extra = [{"root": root} for root in roots[1:]]
    if extra:
        remarks.append("of several data sets, each has the classes of the first: add `classes` to data.extra")
    extra += [{"split": name} for name in ("val", "coarse", "atr", "cihp") if options.get(f"data.include_{name}")]
    for name in ("coarse", "mapillary"):
        if options.get(f"data.only_{name}"):
            fields["data.train_split"], extra = name, []
    if extra:
        fields["data.extra"] = tuple(extra)
    if options.get("data.pred_dt_offset") is not None or options.get("data.use_dt_offset") is not None:
        fields["data.maps"] = ("offset",)
        folder = environment.get("offset_dir")
        fields |= {"data.offset_folder": folder} if folder else {}
    elif options.get("data.use_edge") == "ce2p":
        fields["data.maps"] = ("edge",)
    for variable, field in (("image_subdir", "data.image_folder"), ("label_dir", "data.label_folder")):
        if environment.get(variable):
            fields[field] = environment[variable]
    for key, folder in (("label_edge2void", "label_edge_void"), ("label_non_edge2void", "label_non_edge_void")):
        if options.get(f"data.{key}"):
            fields["data.label_folder"] = folder
    return fields


def _augmentation(options: Options, remarks: list[str]) -> dict:
    fields = {
        "normalization.channels": options.get("data.input_mode", "BGR").lower(),
        "normalization.divisor": float(options.get("normalize.div_value", 255.0)),
        "normalization.mean": tuple(options.get("normalize.mean", (0.485, 0.456, 0.406))),
        "normalization.std": tuple(options.get("normalize.std", (0.229, 0.224, 0.225))),
    }
    chain = []
    for name in options.get("train_trans.trans_seq", ()):
        chosen = options.get(f"train_trans.{name}", {})
        if name == "random_crop":
            fields["augment.crop"] = tuple(chosen["crop_size"][::-1])
            name = "center_crop" if chosen.get("method") == "center" else name
        elif name == "random_hflip":
            name, fields["augment.flip"] = "random_flip", chosen["ratio"]
            if chosen.get("swap_pair"):
                remarks.append("swap_pair: the pairs are those of the class table")
        elif name == "random_resize":
            fields["augment.scale"] = tuple(chosen["scale_range"])
            fields["augment.aspect"] = tuple(chosen.get("aspect_range", (1.0, 1.0)))
        elif name == "random_brightness":
            fields["augment.brightness"] = chosen["shift_value"]
        elif name == "random_rotate":
            fields["augment.rotate"] = float(chosen["rotate_degree"])
        elif name == "resize":
            fields |= _resize(chosen, "augment.resize")
        chain.append(name)
    fields["augment.chain"] = tuple(chain)
    transformer = options.get("train.data_transformer", {})
    fields["augment.collate.mode"] = transformer.get("size_mode", "fix_size")
    fields["augment.collate.align"] = transformer.get("align_method", "only_pad")
    fields["augment.collate.place"] = transformer.get("pad_mode", "random")
    if transformer.get("input_size"):
        fields["augment.collate.size"] = tuple(transformer["input_size"][::-1])
    if "resize" in options.get("val_trans.trans_seq", ()):
        fields |= _resize(options.get("val_trans.resize", {}), "eval")
    return fields


def _resize(chosen: dict, where: str) -> dict:
    if "target_size" in chosen:
        return {f"{where}.size": tuple(chosen["target_size"][::-1])}
    return {f"{where}.min_side": chosen["min_side_length"]} if "min_side_length" in chosen else {}


def _loss(options: Options, environment) -> dict:
    params = options.get("loss.params", {})
    fields = {
        "loss.name": LOSSES[_known(options.get("loss.loss_type"), LOSSES, "loss_type")],
        "loss.class_weights": tuple(params.get("ce_weight", ())),
        "loss.aux_weight": float(options.get("network.loss_weights.aux_loss", 0.4)),
        "loss.out_weight": float(options.get("network.loss_weights.seg_loss", 1.0)),
    }
    if params.get("ce_reduction", "mean") not in ("mean", "elementwise_mean"):
        raise InputError(f"ce_reduction={params['ce_reduction']}: only the mean can be trained with")
    for theirs, ours in (("ohem_thresh", "ohem_threshold"), ("ohem_minkeep", "ohem_min_kept")):
        if theirs in params:
            fields[f"loss.{ours}"] = params[theirs]
    if "rmi_radius" in params:
        fields |= {
            "loss.rmi.radius": params["rmi_radius"],
            "loss.rmi.pool": {0: "max", 1: "average", 2: "resize", 3: "max"}[params["rmi_pool_way"]],
            "loss.rmi.pool_size": params["rmi_pool_size"],
            "loss.rmi.balance": params["loss_weight_lambda"],
            "loss.rmi.complementary": _switch(params["lambda_way"], "lambda_way"),
            "loss.rmi.weight": float(params["loss_weight"]),
        }
    for name in ("mask_threshold", "mask_weight", "direction_weight"):
        if name in environment:
            fields[f"loss.segfix.{name}"] = float(environment[name])
    for name in ("min_distance", "max_distance"):
        if f"dt_{name}" in environment:
            fields[f"loss.segfix.{name}"] = int(environment[f"dt_{name}"])
    if "c4_align_axis" in environment:
        fields["loss.segfix.align_axis"] = True
    gpus = len(options.get("gpu", [0]))
    whole = options.get("network.gathered") and not options.get("network.loss_balance")
    if gpus == 1 or (whole and not options.get("distributed")):
        return fields | {"loss.scope": "global"}
    return fields | {"loss.scope": "replica", "loss.replicas": gpus}


def _optimization(options: Options, environment) -> dict:
    method = _known(options.get("optim.optim_method", "sgd"), ("sgd", "adam"), "optim_method")
    of_method = options.get(f"optim.{method}", {})
    by_decay = _known(options.get("optim.group_method") or "backbone", ("backbone", "decay"), "group_method") == "decay"
    policy = _known(options.get("lr.lr_policy"), POLICIES, "lr_policy")
    of_policy = options.get(f"lr.{policy}", {})
    steps = options.get("solver.max_iters")
    interval = options.get("solver.test_interval", steps)
    fields = {
        "optimizer.name": method,
        "optimizer.learning_rate": float(options.get("lr.base_lr")),
        "optimizer.weight_decay": float(of_method.get("weight_decay", 0.0)),
        "optimizer.head_multiplier": 1.0 if by_decay else float(options.get("lr.nbb_mult", 1.0)),
        "optimizer.decay_norms_and_biases": not by_decay,
        "schedule.name": policy.replace("lambda_", ""),
        "train.batch_size": options.get("train.batch_size"),
        "train.steps": steps,
        "train.log_every": options.get("solver.display_iter", 10),
        "train.eval_every": interval,
        "train.save_every": interval,
        "eval.batch_size": options.get("val.batch_size", 4),
    }
    if method == "sgd":
        fields["optimizer.momentum"] = float(of_method.get("momentum", 0.9))
        fields["optimizer.nesterov"] = _switch(of_method.get("nesterov", False), "nesterov")
    else:
        fields |= {"optimizer.betas": tuple(of_method["betas"]), "optimizer.epsilon": float(of_method["eps"])}
    if policy == "lambda_poly":
        power = environment.get("lambda_poly_power") or options.get("lr.lambda_poly.power", 0.9)
        fields["schedule.power"] = float(power)
    elif policy == "step":
        fields |= {"schedule.gamma": float(of_policy["gamma"]), "schedule.step_size": of_policy["step_size"]}
    elif policy == "multistep":
        fields |= {"schedule.gamma": float(of_policy["gamma"]), "schedule.milestones": tuple(of_policy["stepvalue"])}
    elif policy == "plateau":
        for name in ("factor", "patience", "threshold", "cooldown"):
            fields |= {f"schedule.plateau.{name}": of_policy[name]} if name in of_policy else {}
    if options.get("lr.is_warm"):
        warm = options.get("lr.warm") or {}
        if "warm_iters" not in warm:
            raise InputError("is_warm needs lr.warm.warm_iters, which the original ends without, too")
        fields |= {
            "schedule.warmup.steps": warm["warm_iters"],
            "schedule.warmup.power": 4.0,
            "schedule.warmup.freeze": _switch(warm.get("freeze_backbone", False), "freeze_backbone"),
            "schedule.warmup.of": "kernels" if by_decay else "backbone",
        }
    return fields


def _known(name, known: Collection[str], what: str) -> str:
    if isinstance(name, str) and name in known:
        return name
    close = difflib.get_close_matches(str(name), known)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
    raise InputError(f"unknown {what} {short(name)}; {hint}")


def _switch(value, what: str) -> bool:
    if value in (0, 1):  # and false and true
        return bool(value)
    raise InputError(f"{what} must be true or false, found {short(value)}")
