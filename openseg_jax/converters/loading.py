"""Any checkpoint for inference: a folder of this package, or a PyTorch file, which is imported in memory."""

import hashlib
from pathlib import Path

from openseg_jax import checkpoints, models
from openseg_jax.checkpoints import Metadata
from openseg_jax.converters.convert import import_state_dict, normalise_keys
from openseg_jax.converters.files import read_checkpoint
from openseg_jax.converters.recognition import UNKNOWN_FACTORS, Recognised, recognise
from openseg_jax.data.normalize import Normalization
from openseg_jax.errors import InputError


def read_recognised(path: str | Path, entry: str | None = None) -> tuple[dict, Recognised]:
    """Returns the state dict of a PyTorch file, with normalised keys, and what it is recognised as.

    entry: Which of several state dicts, see `read_checkpoint`.
    """
    state_dict, config = read_checkpoint(path, entry)
    state_dict = normalise_keys(state_dict)
    return state_dict, recognise(state_dict, config)


def load(checkpoint: str | Path) -> tuple[models.Segmentor, dict, Metadata]:
    """Returns the model, its variables and the metadata, as `checkpoints.load` does.

    A PyTorch file is imported as `openseg convert import FILE` does without further options.

    Raises:
        InputError: There is no checkpoint, it is damaged, or the keys of a file do not say which net it is.
    """
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        return checkpoints.load(path)
    state_dict, found = read_recognised(path)
    wanted = found.create_arguments()
    if found.name is None or found.name in models.BACKBONES or UNKNOWN_FACTORS[0] in wanted.get("factors", ()):
        raise InputError(f"{path} does not say by itself which net it is: import it with `openseg convert import`")
    model = models.create(**wanted)
    return model, import_state_dict(state_dict, model, found), Metadata(model.spec.to_dict(), Normalization())


def fingerprint(checkpoint: str | Path) -> str:
    """Returns what is different for any two checkpoints, see `checkpoints.fingerprint`."""
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        return checkpoints.fingerprint(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
