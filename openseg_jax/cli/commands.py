"""How the commands with a config start: flags, help, and errors as one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from unittest import mock

from absl import app, flags
from ml_collections import config_flags

from openseg_jax.errors import InputError, run_command

SCORES = {"miou": "mIoU", "direction_accuracy": "direction accuracy"}

_VERBOSE = flags.DEFINE_bool("verbose", False, "Show tracebacks and the libraries' own logs.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, for a run of several processes.")
_PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "How many processes there are.")
_PROCESS_INDEX = flags.DEFINE_integer("process_index", None, "Which of them this is, from 0.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Several processes, which SLURM, MPI or Kubernetes started.")


def define_config_flag():
    return config_flags.DEFINE_config_file(
        "config", None, "configs/FILE.py[:ARGUMENT]; change any field with --config.FIELD=VALUE.", lock_config=True
    )


def load_config(file: str, changes: list[str]):
    """The config of "configs/FILE.py[:ARGUMENT]" with changes such as --config.FIELD=VALUE, for other commands."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, lock_config=True)
    arguments = ["", f"--config={file}", *changes]
    try:
        with mock.patch.object(sys, "argv", arguments):  # where ml_collections looks for changes
            values(arguments)
        values.config.lock()
    except OSError as error:
        raise InputError(f"the config cannot be loaded: {str(error).splitlines()[-1].strip()}") from error
    except (flags.Error, AttributeError, KeyError, ValueError, TypeError) as error:
        raise InputError(_sentence(error)) from error
    return values.config


def require(name: str, value) -> None:
    if not value:
        raise InputError(f"--{name} is missing; --help shows an example")


def run(main: Callable[[], None], usage: str) -> None:
    """Parses flags and runs main. usage: shown by --help."""
    if {"--help", "-h", "--helpshort"} & set(sys.argv[1:]):
        print(usage.strip())
        for flag in sorted(_own_flags(), key=lambda f: f.name):
            print(f"  --{flag.name}: {flag.help}")
        return

    def checked() -> int | None:
        if flags.FLAGS["config"].value is None:
            raise InputError("--config is missing, such as --config=configs/camvid.py:hrnet_w18_ocr")
        try:
            flags.FLAGS["config"].value.lock()
        except OSError as error:  # ml_collections keeps what went wrong with the file until the config is used
            raise InputError(f"the config cannot be loaded: {str(error).splitlines()[-1].strip()}") from error
        if _COORDINATOR.value:
            import jax

            jax.distributed.initialize(_COORDINATOR.value, _PROCESS_COUNT.value, _PROCESS_INDEX.value)
        elif _DISTRIBUTED.value:
            import jax

            jax.distributed.initialize()
        return main()

    def parse(arguments: list[str]) -> list[str]:
        try:
            return flags.FLAGS(arguments)
        except (flags.Error, AttributeError, KeyError, OSError, ValueError, TypeError) as error:
            if "--verbose" in arguments:
                raise
            run_command(_raise(InputError(_sentence(error))))

    # XLA's and TensorStore's own log lines are for their developers.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    app.run(lambda _: run_command(checked, _VERBOSE.value), flags_parser=parse)


def _own_flags():
    modules = ("__main__", __name__)
    by_module = flags.FLAGS.flags_by_module_dict()
    return [flag for module, found in by_module.items() if module in modules or module == sys.argv[0] for flag in found]


def _raise(error: Exception) -> Callable[[], None]:
    def function():
        raise error

    return function


def _sentence(error: Exception) -> str:
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__
