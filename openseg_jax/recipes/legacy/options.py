"""Options of openseg.pytorch: a JSON file, the flags of its main.py, and dotted KEY VALUE overrides, by its rules."""

import argparse
import ast
from pathlib import Path

from openseg_jax.errors import InputError
from openseg_jax.text import short
from openseg_jax.trees import read_tree

# Flags that replace an option of the file: its name and its type.
_FLAGS: dict[str, tuple[str, type]] = {
    "train_batch_size": ("train.batch_size", int),
    "val_batch_size": ("val.batch_size", int),
    "workers": ("data.workers", int),
    **{name: (f"network.{name}", str) for name in ("model_name", "backbone", "bn_type", "pretrained", "resume")},
    "optim_method": ("optim.optim_method", str),
    "group_method": ("optim.group_method", str),
    "base_lr": ("lr.base_lr", float),
    "lr_policy": ("lr.lr_policy", str),
    "loss_type": ("loss.loss_type", str),
    **{name: (f"solver.{name}", int) for name in ("max_iters", "display_iter", "test_interval")},
}
_SWITCHES: dict[str, tuple[str, bool]] = {
    **{f"include_{name}": (f"data.include_{name}", False) for name in ("val", "coarse", "atr", "cihp")},
    **{f"only_{name}": (f"data.only_{name}", False) for name in ("coarse", "mapillary", "small")},
    "drop_last": ("data.drop_last", False),
    "resume_strict": ("network.resume_strict", True),
    "resume_continue": ("network.resume_continue", False),
    "resume_eval_train": ("network.resume_train", True),
    "resume_eval_val": ("network.resume_val", True),
    "gathered": ("network.gathered", True),
    "loss_balance": ("network.loss_balance", False),
    "is_warm": ("lr.is_warm", False),
}
_OTHERS = {
    "nbb_mult": "lr.nbb_mult",
    "multi_grid": "network.multi_grid",
    "data_dir": "data.data_dir",
    **{name: name for name in ("gpu", "seed", "distributed", "use_ground_truth")},
}
# Flags of the original that its training does not read, or that have no meaning here.
_IGNORED = (
    "phase", "checkpoints_root", "checkpoints_name", "save_iters", "save_epoch", "max_epoch", "logfile_level",
    "stdout_level", "log_file", "rewrite", "log_to_file", "test_img", "test_dir", "out_dir", "save_prob", "cudnn",
    "local_rank",
)  # fmt: skip


class Options:
    """Nested options that are read by dotted names."""

    def __init__(self, tree: dict):
        self._tree, self._read = tree, set()

    def get(self, name: str, default=None):
        """Returns an option, or a default if it is missing or None."""
        self._read.add(name)
        node = self._tree
        for part in name.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return default if node is None else node

    def unread(self) -> list[str]:
        """Returns the names of the options that `get` was not asked for."""
        return [name for name in _names(self._tree) if self._read.isdisjoint(_sections(name))]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the original's main.py, and the overrides behind them, to a parser."""
    parser.add_argument("--gpu", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--data_dir", nargs="+")
    parser.add_argument("--multi_grid", nargs="+", type=int)
    parser.add_argument("--nbb_mult", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=304)
    parser.add_argument("--distributed", action="store_true")
    parser.add_argument("--use_ground_truth", action="store_true")
    for flag, (_, kind) in _FLAGS.items():
        parser.add_argument(f"--{flag}", type=kind)
    for flag, (_, default) in _SWITCHES.items():
        # a flag without a word is off in the original, whatever its default
        parser.add_argument(f"--{flag}", type=_word, nargs="?", const=False, default=default)
    for flag in _IGNORED:
        parser.add_argument(f"--{flag}", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")


def read_options(path: Path, flags: argparse.Namespace) -> Options:
    """Reads the options of a JSON file, in which flags and then overrides replace values.

    Raises:
        InputError: If the file cannot be read, or an override makes no sense.
    """
    try:
        tree = read_tree(path)
    except InputError as error:
        raise InputError(f"cannot read the options of openseg.pytorch: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{path} is not as openseg.pytorch has it: it must hold an object, found {short(tree)}")
    names = {flag: name for flag, (name, _) in (_FLAGS | _SWITCHES).items()} | _OTHERS
    for flag, name in names.items():
        if getattr(flags, flag) is not None:
            assign(tree, name, getattr(flags, flag))
    if len(flags.overrides) % 2:
        raise InputError(f"overrides come in pairs KEY VALUE, found {' '.join(flags.overrides)}")
    for name, text in zip(flags.overrides[::2], flags.overrides[1::2], strict=True):
        _override(tree, name, text)
    return Options(tree)


def _override(tree: dict, name: str, text: str) -> None:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the original crashes on all but one
        value = text
    target = name.removesuffix("+")
    if target != name:
        found = Options(tree).get(target)
        if not isinstance(found, list):
            raise InputError(f"{name} appends to a list, but {target} is {short(found)}")
        value = [*found, value]
    assign(tree, target, value)


def assign(tree: dict, name: str, value) -> None:
    """Sets a value of nested dictionaries by its dotted name."""
    *sections, last = name.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise InputError(f"{name} cannot be set: {section} is no section")
    tree[last] = value


def _word(text: str) -> bool:
    if text.lower() in ("yes", "true", "t", "y", "1"):
        return True
    if text.lower() in ("no", "false", "f", "n", "0"):
        return False
    raise argparse.ArgumentTypeError(f"yes or no, found {text!r}")


def _sections(name: str):
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def _names(tree: dict, prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
