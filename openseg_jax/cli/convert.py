"""Reads and writes PyTorch checkpoints of openseg.pytorch, and imports its configs.

    openseg convert inspect CKPT.pth
    openseg convert import CKPT.pth --model hrnet_w48_ocr --num_classes 19 --out DIR
    openseg convert import hrnetv2_w48_imagenet_pretrained.pth --backbone_only --out DIR
    openseg convert verify CKPT.pth DIR --reference taps.npz
    openseg convert export DIR --out CKPT.pth
    openseg convert config H_48_D_4.json --model_name hrnet_w48_ocr --out mine.py

docs/converting.md tells more.
"""

import ast
import hashlib
import json
from contextlib import closing
from pathlib import Path

from openseg_jax.cli.arguments import add_command, add_subcommands
from openseg_jax.errors import InputError
from openseg_jax.recipes.legacy.options import add_flags

INSPECT = """Says what a PyTorch checkpoint is.

    openseg convert inspect CKPT.pth
"""
IMPORT = """Makes a checkpoint folder from a PyTorch checkpoint.

    openseg convert import CKPT.pth --out DIR
    openseg convert import CKPT.pth --model isanet --option factors=[[8,8],[4,4]] --out DIR

The folder is a checkpoint like those of training: `openseg eval` and `openseg predict` run it, and
`openseg train --config.pretrained.checkpoint=DIR` starts from it. Without --model it imports what it recognises.
"""
VERIFY = """Proves that a checkpoint folder is the PyTorch checkpoint.

    openseg convert verify CKPT.pth DIR --reference taps.npz
"""
EXPORT = """Makes a PyTorch checkpoint of the original from a checkpoint folder.

    openseg convert export DIR --out CKPT.pth
"""
CONFIG = """Writes the config that trains what openseg.pytorch trains with a JSON file and the flags of its main.py.

    openseg convert config configs/cityscapes/H_48_D_4.json --model_name hrnet_w48_ocr \\
        --backbone hrnet48 --loss_type fs_auxce_loss --gathered n --loss_balance y --out mine.py

Every flag of the original's main.py is understood, and dotted overrides such as `lr.base_lr 0.02`. Environment
variables that change a training there (lambda_poly_power, mask_weight, dt_num_classes, ...) count too.
"""


def add(commands) -> None:
    actions = add_subcommands(add_command(commands, "convert", __doc__))

    command = add_command(actions, "inspect", INSPECT, inspect_file)
    command.add_argument("checkpoint", metavar="CKPT.pth", help="a PyTorch checkpoint")
    _add_entry(command)

    command = add_command(actions, "import", IMPORT, import_file)
    command.add_argument("checkpoint", metavar="CKPT.pth", help="a PyTorch checkpoint")
    command.add_argument("--out", required=True, metavar="DIR", help="new folder for the result")
    _add_entry(command)
    command.add_argument("--model", help="named model, such as hrnet_w48_ocr; recognised if not given")
    command.add_argument("--num_classes", type=int, help="recognised if not given")
    command.add_argument("--backbone", help="another backbone than the model's own")
    command.add_argument("--norm", help="batch_norm or inplace_abn, or BACKBONE,HEAD; recognised if not given")
    command.add_argument("--backbone_only", action="store_true", help="take the backbone alone: ImageNet files")
    command.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="what the keys do not say, such as factors=[[8,8],[4,4]] or multi_grid=[1,2,4]; may be repeated",
    )  # fmt: skip
    command.add_argument("--classes", metavar="TABLE", help="cityscapes, camvid or a JSON file: names and colours")
    command.add_argument(
        "--channels", choices=("bgr", "rgb"), default="bgr",
        help="order of the pixels that the mean below is taken from; bgr for HRNets of the original",
    )  # fmt: skip
    command.add_argument("--divisor", type=float, help="the recipes' if not given, as mean and std")
    command.add_argument("--mean", type=float, nargs=3, help="of each channel, of the divided pixels")
    command.add_argument("--std", type=float, nargs=3, help="of each channel, of the divided pixels")

    command = add_command(actions, "verify", VERIFY, verify_file)
    command.add_argument("checkpoint", metavar="CKPT.pth", help="a PyTorch checkpoint")
    command.add_argument("folder", metavar="DIR", help="what `import` made of it; verify.json is written there")
    _add_entry(command)
    command.add_argument("--reference", metavar="TAPS.npz", help="activations saved from PyTorch: docs/converting.md")
    command.add_argument(
        "--tolerance", type=float, default=1e-4, help="of a layer, relative to its largest value (%(default)s)"
    )

    command = add_command(actions, "export", EXPORT, export_file)
    command.add_argument("checkpoint", metavar="DIR", help="folder of a run, or of an imported checkpoint")
    command.add_argument("--out", required=True, metavar="CKPT.pth", help="the PyTorch checkpoint to write")

    command = add_command(actions, "config", CONFIG, write_config)
    command.add_argument("config", metavar="CONFIG.json", help="a config of openseg.pytorch")
    command.add_argument("--out", required=True, metavar="FILE.py", help="the config to write")
    add_flags(command)


def _add_entry(command) -> None:
    command.add_argument("--entry", help="which of several state dicts of the file, such as ema")


def inspect_file(arguments) -> int:
    from rich.table import Table

    from openseg_jax.console import Console
    from openseg_jax.converters import read_recognised

    state_dict, found = read_recognised(arguments.checkpoint, arguments.entry)
    table = Table("", "found", show_header=False)
    rows = {
        "model": found.name,
        "backbone": found.backbone,
        "norm of the backbone": found.norm[0],
        "norm of the head": found.norm[1],
        "classes": found.num_classes,
        "options": _options_text(found.options),
        "assumed": _options_text(found.assumed),
        "keys": len(state_dict),
        "numbers": f"{sum(tensor.numel() for tensor in state_dict.values()):,}",
        "sha256": _source(arguments.checkpoint)["sha256"],
    }
    for name, value in rows.items():
        table.add_row(name, "-" if value is None else str(value))
    Console(width=100).print(table)
    if found.name is None:
        print("This is none of the models of openseg_jax.")
        return 1
    return 0


def _options_text(options: dict) -> str | None:
    return ", ".join(f"{key}={value}" for key, value in options.items()) or None


def import_file(arguments) -> None:
    from openseg_jax import models
    from openseg_jax.checkpoints import Checkpoints, Metadata
    from openseg_jax.converters import import_state_dict, read_recognised
    from openseg_jax.data.normalize import Normalization
    from openseg_jax.labels.classes import load_classes

    out = Path(arguments.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; give a new folder to --out")
    state_dict, found = read_recognised(arguments.checkpoint, arguments.entry)
    model = models.create(**_wanted(arguments, found))
    classes = load_classes(arguments.classes) if arguments.classes else None
    if classes and model.spec.num_classes not in (None, len(classes)):
        raise InputError(f"{classes.title} has {len(classes)} classes, the checkpoint {model.spec.num_classes}")
    variables = import_state_dict(state_dict, model, found)
    given = {name: getattr(arguments, name) for name in ("channels", "divisor", "mean", "std")}
    normalization = Normalization(**{name: value for name, value in given.items() if value is not None})
    spec, extra = model.spec, {"source": _source(arguments.checkpoint)}
    with closing(Checkpoints(out)) as checkpoints:
        checkpoints.save(variables, Metadata(spec.to_dict(), normalization, classes, extra=extra))
    details = f"{spec.num_classes} classes, " if spec.num_classes else ""
    body = "" if spec.name == spec.backbone else f"on {spec.backbone}, "
    print(f"imported {spec.name} ({body}{details}norms {' and '.join(spec.norm)}) from {arguments.checkpoint} to {out}")
    used = models.default_options(spec.name, spec.backbone) | dict(spec.options)
    given = {option.partition("=")[0] for option in arguments.option}
    assumed = {option: used[option] for option in found.assumed if option in used and option not in given}
    if assumed and not arguments.backbone:
        print(f"assumed, because no key tells: {_options_text(assumed)}; --option and --backbone change that")


def _wanted(arguments, found) -> dict:
    """Arguments of models.create: what was asked for, and for the rest what was recognised."""
    from openseg_jax import models
    from openseg_jax.converters.recognition import UNKNOWN_FACTORS, same_keys

    file = arguments.checkpoint
    if arguments.model is None and found.name is None:
        raise InputError(f"{file} is none of the models of openseg_jax; name one with --model")
    wanted = found.create_arguments()
    if arguments.model:
        models.default_options(arguments.model)  # an unknown name ends here
        if arguments.model != found.name:
            kept = {"num_classes", "norm"}
            if found.name and same_keys(arguments.model, found.name) and not arguments.model.startswith("hrnet_w"):
                kept |= {"backbone", *models.default_options(arguments.model, found.backbone)}
            wanted = {key: value for key, value in wanted.items() if key in kept}
        wanted["name"] = arguments.model
    norm = tuple(arguments.norm.split(",")) if "," in (arguments.norm or "") else arguments.norm
    given = {"num_classes": arguments.num_classes, "backbone": arguments.backbone, "norm": norm}
    wanted |= {name: value for name, value in given.items() if value}
    wanted |= dict(_option(text) for text in arguments.option)
    if arguments.backbone_only:
        named = models.MODELS.get(arguments.model)
        backbone = arguments.backbone or (named.backbone if named else found.backbone)
        known = {*models.default_options(backbone), "norm"}
        wanted = {key: value for key, value in wanted.items() if key in known}
        wanted |= {"name": backbone, "num_classes": None}
    elif found.name in models.BACKBONES and arguments.model is None:
        raise InputError(f"{file} holds a backbone alone ({found.name}); import it with --backbone_only")
    if UNKNOWN_FACTORS[0] in wanted.get("factors", ()):
        pairs = [[8, 8], [4, 4], [2, 2], [16, 16]][: len(wanted["factors"])]
        raise InputError(
            f"{file} is {found.name} with {len(pairs)} factor pairs, whose numbers no key tells: "
            f"give them, such as --option factors={str(pairs).replace(' ', '')}"
        )
    return wanted


def _option(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--option takes NAME=VALUE, found {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def verify_file(arguments) -> int:
    import jax

    from openseg_jax import files
    from openseg_jax.checkpoints import load
    from openseg_jax.converters import import_state_dict, read_recognised, verify
    from openseg_jax.converters.files import has_checksums

    state_dict, found = read_recognised(arguments.checkpoint, arguments.entry)
    model, variables, _ = load(arguments.folder)
    expected = import_state_dict(state_dict, model, found)
    same = jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), variables, expected))
    outputs, activations = verify.run(model, variables, verify.fixed_input())
    source = _source(arguments.checkpoint)
    report = verify.make_report(model, variables, outputs, activations, source) | {"variables_equal": same}
    of_file = "CRC-32 of each part" if has_checksums(arguments.checkpoint) else "none: damage cannot be noticed"
    report["checksums"] = {"file": of_file, "folder": "SHA-256 of each file"}
    rows = []
    if arguments.reference:
        reference = verify.read_reference(arguments.reference)
        _, activations = verify.run(model, variables, reference.pop("input").transpose(0, 2, 3, 1))
        rows = verify.compare(model, activations, reference)
        report["layers"] = [row._asdict() | {"diverges": row.diverges(arguments.tolerance)} for row in rows]
    files.write_text(Path(arguments.folder) / "verify.json", json.dumps(report, indent=2) + "\n")
    _print_report(report, rows, arguments.tolerance)
    print(f"verify.json is in {arguments.folder}")
    return 0 if same and not any(row.diverges(arguments.tolerance) for row in rows) else 1


def _print_report(report: dict, rows: list, tolerance: float) -> None:
    from rich.table import Table

    from openseg_jax.console import Console

    console = Console(width=110)
    spec = report["model"]
    console.print(
        f"{spec['name']} on {spec['backbone']}, norms {' and '.join(spec['norm'])}, "
        f"{report['parameters']:,} parameters, SHA-256 {report['source']['sha256'][:16]}…: variables "
        + ("equal to those of the file, bit for bit" if report["variables_equal"] else "DIFFER from those of the file")
    )
    table = Table("map", "mean", "std", "min", "max", title="activations on the fixed input")
    for kind in ("taps", "outputs"):
        for name, values in report[kind].items():
            table.add_row(name, *(f"{value:.5f}" for value in values.values()))
    console.print(table)
    if not rows:
        return
    table = Table("layer", "shape", "largest", "difference", "", title="against the reference")
    diverging = [row.name for row in rows if row.diverges(tolerance)]
    for row in rows:
        mark = "diverges" if row.name in diverging else ""
        table.add_row(row.name, "x".join(map(str, row.shape)), f"{row.largest:.4g}", f"{row.difference:.2e}", mark)
    console.print(table)
    console.print(f"the first layer that diverges is {diverging[0]}" if diverging else f"all {len(rows)} layers agree")


def export_file(arguments) -> None:
    from openseg_jax.checkpoints import load
    from openseg_jax.converters import export_state_dict, write_state_dict
    from openseg_jax.results import refuse_existing

    refuse_existing(arguments.out)
    model, variables, _ = load(arguments.checkpoint)
    write_state_dict(export_state_dict(variables, model), arguments.out)
    print(f"exported {model.spec.name} from {arguments.checkpoint} to {arguments.out}")


def _source(path: str) -> dict[str, str]:
    with open(path, "rb") as file:
        return {"file": Path(path).name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def write_config(arguments) -> None:
    from openseg_jax.recipes.legacy.convert import import_config
    from openseg_jax.results import refuse_existing

    refuse_existing(arguments.out)
    for remark in import_config(arguments.config, arguments, arguments.out, arguments.command_line):
        print(f"note: {remark}")
    print(f"openseg train --config={arguments.out} --workdir=DIR --dry_run shows what it is")
