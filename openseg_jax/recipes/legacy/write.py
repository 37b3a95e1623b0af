"""Writes the config that trains what openseg.pytorch trains."""

import argparse
import os
from pathlib import Path

from openseg_jax import files
from openseg_jax.config import typed
from openseg_jax.errors import InputError
from openseg_jax.recipes.common import base
from openseg_jax.recipes.legacy.convert import convert
from openseg_jax.recipes.legacy.options import read_options


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
        model, fields, remarks = convert(read_options(Path(path), flags), os.environ)
        config = base(model).to_dict()
        for name, value in fields.items():
            *sections, last = name.split(".")
            node = config
            for section in sections:
                node = node[section]
            node[last] = value
    except InputError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not as openseg.pytorch has it: {type(error).__name__}: {error}") from error
    typed(config)
    files.write_text(out, _source(model, fields, [f"{Path(path).name} of openseg.pytorch.", command], remarks))
    return remarks


def _source(model: str, fields: dict, lines: list[str], remarks: list[str]) -> str:
    """The text of a config file. What comes from outside is in literals, or in comments of one line each."""
    if remarks:
        lines = [*lines, "Not the same, or not taken over:", *(f"* {remark}" for remark in remarks)]
    comments = ["# " + "".join(c if c.isprintable() else " " for c in line) for line in lines]
    body = [f"    config.{name} = {value!r}" for name, value in fields.items()]
    return "\n".join(
        [
            *comments,
            "",
            "from openseg_jax.recipes.common import base",
            "",
            "",
            "def get_config():",
            f"    config = base({model!r})",
            *body,
            "    return config",
            "",
        ]
    )
