"""The one convention by which every subcommand of `openseg` parses its options.

A subcommand is a module of this package with a function `add(commands)`, which registers parsers by `add_command` and
`Parser.add_argument`. Heavy imports (jax, the parts of the package) belong into the functions that run it.
"""

import argparse
import difflib
import re
from collections.abc import Callable
from typing import NoReturn

CHECKPOINT = {"metavar": "CKPT", "help": "folder of a run or of an import, or a .pth file of the original"}


class Switch(argparse.Action):
    """A boolean option: --NAME, --noNAME and --no_NAME; Parser turns --NAME=true and --NAME=false into these."""

    def __init__(self, option_strings, dest, default=False, **options):
        name = option_strings[0]
        super().__init__([name, f"--no{name[2:]}", f"--no_{name[2:]}"], dest, nargs=0, default=default, **options)

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, option_string == self.option_strings[0])


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def _format_action_invocation(self, action):
        return f"--[no]{action.dest}" if isinstance(action, Switch) else super()._format_action_invocation(action)


class Parser(argparse.ArgumentParser):
    """Parses a command by the convention of the package.

    Options are spelled with underscores, and dashes count as the same. Booleans (`action="store_true"` or, for other
    defaults, `action="switch"`) also take --noNAME and --NAME=true|false. Positional arguments may stand between
    options. What is wrong with the command line ends in one sentence and exit code 2.
    """

    def __init__(self, **options):
        super().__init__(**{"formatter_class": _Formatter, "allow_abbrev": False} | options)
        for action in ("store_true", "switch"):
            self.register("action", action, Switch)
        # No default here, or that of a subcommand would replace what was given before its name.
        self.add_argument(
            "--verbose", action="switch", default=argparse.SUPPRESS, help="show tracebacks and the libraries' own logs"
        )
        self._takes_config = self._is_parsing = False

    def add_config(self, required: bool = True) -> None:
        """Adds --config=SPEC, and --config.FIELD=VALUE, which are collected in `changes`."""
        self._takes_config = True
        self.add_argument(
            "--config",
            required=required,
            metavar="SPEC",
            help="a recipe, NAME[:ARGUMENT] such as cityscapes:hrnet_w48_ocr, or a file of your own, "
            "PATH.py[:ARGUMENT]; --config.FIELD=VALUE changes any field of it",
        )

    def add_processes(self) -> None:
        """Adds the options of runs of several processes, which `openseg_jax.cli.main` starts."""
        self.add_argument("--coordinator", metavar="HOST:PORT", help="process 0, for a run of several processes")
        self.add_argument("--process_count", type=int, metavar="N", help="how many processes there are")
        self.add_argument("--process_index", type=int, metavar="I", help="which of them this is, from 0")
        self.add_argument(
            "--distributed", action="store_true", help="several processes, which SLURM, MPI or Kubernetes started"
        )

    def parse_known_args(self, args=None, namespace=None):
        if self._is_parsing or self._subparsers:
            return super().parse_known_args(args if self._is_parsing else self._normalised(args)[0], namespace)
        arguments, changes = self._normalised(args)
        self._is_parsing = True
        try:
            namespace, unknown = self.parse_known_intermixed_args(arguments, namespace)
        finally:
            self._is_parsing = False
        if unknown:
            self._refuse(unknown[0])
        if self._takes_config:
            namespace.changes = changes
        return namespace, unknown

    def _normalised(self, arguments: list[str]) -> tuple[list[str], list[str]]:
        """The arguments in the spelling that argparse knows, without the changes of a config, and these."""
        normal, changes, expects_value = [], [], False
        for place, text in enumerate(arguments):
            if text == "--":  # what follows are no options, whatever they look like
                return [*normal, *arguments[place:]], changes
            name, equals, value = text.partition("=")
            is_option = name.startswith("--")
            if is_option:
                name = f"--{name[2:].replace('-', '_')}"
            action = self._option_string_actions.get(name)
            is_change = self._takes_config and name.startswith(("--config.", "--noconfig."))
            if is_change or (expects_value and not is_option):
                changes.append(name + equals + value)
            elif equals and isinstance(action, Switch):
                if value.lower() not in ("true", "false"):
                    self.error(f"{name} is true or false, found {value!r}")
                normal.append(name if value.lower() == "true" else action.option_strings[1])
            else:
                normal.append(name + equals + value)
            expects_value = is_change and not equals
        return normal, changes

    def _refuse(self, unknown: str) -> NoReturn:
        name = unknown.partition("=")[0][:80]
        if not name.startswith("-"):
            self.error(f"unexpected argument {unknown[:80]!r}")
        if name.startswith("--config."):
            self.error(f"{name} changes a config, and `{self.prog}` takes none")
        similar = difflib.get_close_matches(name, self._option_string_actions, 1)
        self.error(f"unknown option {name}" + (f", did you mean {similar[0]}?" if similar else ""))

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2 and one sentence."""
        message = re.sub(r"^the following arguments are required: ([^,]*)$", r"\1 is missing", message)
        message = re.sub(r"^the following arguments are required: (.*)$", r"\1 are missing", message)
        message = message.removeprefix("argument ").replace(": is ", " is ", 1)
        self.exit(2, f"error: {message} (see `{self.prog} --help`)\n")


def add_command(commands, name: str, about: str, run: Callable | None = None) -> Parser:
    """Registers a subcommand and returns the parser of its options.

    Args:
        commands: What `add` of a module is given, or the result of `add_subcommands`.
        name: The word on the command line.
        about: Its help: a summary of one line, an example, and what there is to know. `__doc__` of a module does.
        run: Called with the parsed arguments; its result, or 0, is the exit code. None if there are subcommands.
    """
    command = commands.add_parser(name, help=about.partition("\n")[0].rstrip("."), description=about)
    if run:
        command.set_defaults(run=run)
    return command


def add_subcommands(parser: Parser):
    """Makes `parser` one of several subcommands; the result is for `add_command`."""
    return parser.add_subparsers(required=True, metavar="COMMAND")


def size(text: str) -> tuple[int, int]:
    """Reads (height, width) of "512x512", as the `type` of an option."""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and 0 < len(part) <= 5 and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"is HEIGHTxWIDTH, such as 512x512, found {text[:80]!r}")
    return int(parts[0]), int(parts[1])
