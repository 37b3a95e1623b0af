"""Semantic segmentation with HRNet, OCR, OCNet, ISA and SegFix in JAX.

    openseg demo --out demo
    openseg train --config=folder:hrnet_w18_ocr --workdir=runs/mine --config.data.root=PATH
    openseg eval --config=folder --checkpoint=runs/mine --config.data.root=PATH --out=report
    openseg predict --checkpoint=runs/mine photos/ --out=predicted

`openseg COMMAND --help` shows an example and all options of a command.
"""

import importlib
import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from openseg_jax import __version__
from openseg_jax.cli.arguments import Parser, add_subcommands
from openseg_jax.errors import run_command

COMMANDS = ("demo", "train", "eval", "predict", "convert", "data", "segfix", "export", "models", "compare")


def main(argv: Sequence[str] | None = None, command: str = "") -> NoReturn:
    """Runs `openseg` and ends the process with the exit code of the command.

    Args:
        argv: The arguments behind the name of the program; None takes those of the process.
        command: Words that come before them: the command that a script or `python -m` stands for.

    Raises:
        SystemExit: Always. 0 is success, 1 a check or a run that failed, 2 wrong input.
    """
    argv = [*command.split(), *map(str, sys.argv[1:] if argv is None else argv)]
    # XLA's and TensorStore's own log lines are for their developers.
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that are not UTF-8, or that the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments = make_parser().parse_args(argv)
    arguments.command_line = shlex.join(["openseg", *argv])
    run_command(lambda: _run(arguments), arguments.verbose)


def make_parser() -> Parser:
    """Returns the parser of all commands, which imports nothing heavy."""
    parser = Parser(prog="openseg", description=__doc__)
    parser.add_argument(
        "--version", action="version", version=f"openseg_jax {__version__}", help="show the version of the package"
    )
    parser.set_defaults(verbose=False)
    commands = add_subcommands(parser)
    for name in COMMANDS:
        importlib.import_module(f"openseg_jax.cli.{name}").add(commands)
    return parser


def _run(arguments) -> int | None:
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # grain's workers read them
    if "coordinator" in arguments and (arguments.coordinator or arguments.distributed):
        from openseg_jax import peers

        with peers.joined(arguments.coordinator, arguments.process_count, arguments.process_index):
            return arguments.run(arguments)
    return arguments.run(arguments)
