"""Writes the config file that trains what openseg.pytorch trains with a JSON file and the flags of its main.py.

    python -m openseg_jax.recipes.legacy configs/cityscapes/H_48_D_4.json --model_name hrnet_w48_ocr \\
        --backbone hrnet48 --loss_type fs_auxce_loss --gathered n --loss_balance y --out configs/mine.py

Every flag of the original's main.py is understood, and behind them dotted overrides such as `lr.base_lr 0.02`.
Environment variables that change a training there (lambda_poly_power, mask_weight, dt_num_classes, ...) count too.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from openseg_jax.errors import InputError, run_command
from openseg_jax.recipes.legacy.convert import convert
from openseg_jax.recipes.legacy.options import add_flags, read_options


def write_config(arguments: argparse.Namespace, command: str) -> None:
    out = Path(arguments.out)
    if out.exists():
        raise InputError(f"{out} exists; give another file to --out")
    model, fields, remarks = convert(read_options(Path(arguments.config), arguments), os.environ)
    lines = [f'"""{Path(arguments.config).name} of openseg.pytorch.', "", f"{command}"]
    if remarks:
        lines += ["", "Not the same, or not taken over:", *(f"* {remark}" for remark in remarks)]
    lines += [
        '"""',
        "",
        "from openseg_jax.recipes.common import base",
        "",
        "",
        "def get_config():",
        f'    config = base("{model}")',
    ]
    lines += [f"    config.{name} = {value!r}" for name, value in fields.items()]
    out.write_text("\n".join([*lines, "    return config", ""]))
    for remark in remarks:
        print(f"note: {remark}")
    print(f"python train.py --config={out} --workdir=DIR --dry_run shows what it is")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m openseg_jax.recipes.legacy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG.json")
    parser.add_argument("--out", required=True, metavar="FILE.py", help="the config to write")
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")
    add_flags(parser)
    arguments = parser.parse_intermixed_args()
    command = f"python -m openseg_jax.recipes.legacy {' '.join(sys.argv[1:])}"
    run_command(lambda: write_config(arguments, command), arguments.verbose)


if __name__ == "__main__":
    main()
