"""Checkpoint folders: FOLDER/STEP/{variables, training, metadata}, written by orbax, whole or not at all.

Training, evaluation, prediction and the converters share this one form. `variables` is what a net needs to run;
`training` is what else a run needs to continue, which only its own checkpoints have; `metadata` is JSON (`Metadata`).
Every part has digests, which are compared before anything of it is used: orbax itself reads damaged arrays as others.
"""

import contextlib
import dataclasses
import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from openseg_jax import models
from openseg_jax.data.normalize import Normalization
from openseg_jax.errors import InputError, RunError
from openseg_jax.files import read_json, write_text
from openseg_jax.labels.classes import ClassTable

_FORMAT = 2
_WITHOUT_DIGESTS = 1  # the format before, which is still read
_DIGESTS = "digests.json"  # in a part: the SHA-256 of each of its files


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a checkpoint says besides its arrays.

    Attributes:
        model: The arguments of `models.create`.
        normalization: How images were normalised.
        classes: The classes of the data set, None if unknown.
        step: The number of training steps behind it.
        config: The config of the training run, as a plain dict.
        extra: More facts: the source file, scores, ...
    """

    model: dict
    normalization: Normalization
    classes: ClassTable | None = None
    step: int = 0
    config: dict | None = None
    extra: dict = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict:
        classes = self.classes and self.classes.to_dict()
        fields = {"format": _FORMAT, **vars(self), "normalization": vars(self.normalization), "classes": classes}
        return fields | {"digest": _digest_of_json(fields)}

    @classmethod
    def from_dict(cls, fields: dict, where: str) -> "Metadata":
        """Raises InputError if the fields are damaged, or of a format that is not known."""
        digest, version = fields.pop("digest", None), fields.get("format")
        if version not in (_FORMAT, _WITHOUT_DIGESTS):
            raise InputError(f"{where} was written by another version of openseg_jax, or is damaged")
        if digest != (_digest_of_json(fields) if version == _FORMAT else None):
            raise _damaged(f"{where}/metadata")
        del fields["format"]
        classes = fields["classes"] and ClassTable.from_dict(fields["classes"], where)
        return cls(**fields | {"normalization": Normalization(**fields["normalization"]), "classes": classes})


class _Arrays(ocp.StandardCheckpointHandler):
    """Writes arrays and, before the checkpoint becomes visible, the digests of their files."""

    def finalize(self, directory) -> None:
        super().finalize(directory)
        folder = Path(directory)
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        with ThreadPoolExecutor() as pool:
            digests = pool.map(_digest, (folder / name for name in names))
        write_text(folder / _DIGESTS, json.dumps(dict(zip(names, digests, strict=True))))


@ocp.args.register_with_handler(_Arrays, for_save=True)
class _Save(ocp.args.StandardSave):
    """Arrays to save."""


@ocp.args.register_with_handler(_Arrays, for_restore=True)
class _Restore(ocp.args.StandardRestore):
    """Arrays to restore."""


class Checkpoints:
    """The checkpoints in one folder, of which the newest `keep` are kept.

    Saving happens in the background. A checkpoint becomes visible under its step only when all of it is written, and an
    older one is deleted only after that: whenever the process dies, what is left can be restored.
    """

    def __init__(self, folder: str | Path, keep: int = 1):
        self.folder = Path(folder).absolute()
        # Two folders are written at the same time, so the barriers of several processes need names of their own:
        # otherwise one process waits for the first folder where another waits for the second, forever.
        barriers = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=self.folder.name)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=True, multiprocessing_options=barriers
        )
        handlers = {name: _Arrays(multiprocessing_options=barriers) for name in ("variables", "training")}
        handlers["metadata"] = ocp.JsonCheckpointHandler(multiprocessing_options=barriers)
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, variables: dict, metadata: Metadata, training: dict | None = None) -> None:
        """Saves a checkpoint of step `metadata.step`: returns when the arrays are copied, and writes in the background.

        Raises RunError if this checkpoint, or the one before, cannot be written.
        """
        parts = {"variables": _Save(variables), "metadata": ocp.args.JsonSave(metadata.to_dict())}
        if training is not None:
            parts["training"] = _Save(training)
        if metadata.step == self.latest_step():
            return  # a run that was resumed at its last step, and stopped there again
        with self._reported():
            self._manager.save(metadata.step, args=ocp.args.Composite(**parts))

    def restore(self, variables, training) -> tuple[dict, dict, Metadata]:
        """Returns `variables`, `training` and the metadata of the newest checkpoint.

        Both trees are given as jax.ShapeDtypeStruct with shardings, where their arrays then lie.
        """
        step = self.latest_step()
        metadata = read_metadata(self.folder)
        with _verified(self.folder / str(step), "variables", "training"):
            pass
        with _explained(self.folder):
            parts = {"variables": _Restore(variables), "training": _Restore(training)}
            found = self._manager.restore(step, args=ocp.args.Composite(**parts))
        return found["variables"], found["training"], metadata

    def wait(self) -> None:
        """Waits until everything is on disk."""
        with self._reported():
            self._manager.wait_until_finished()

    def close(self) -> None:
        self.wait()
        self._manager.close()

    @contextlib.contextmanager
    def _reported(self):
        """Turns a failure to write, maybe that of the save before, into a RunError."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split())
            reason = reason if len(reason) < 300 else f"{reason[:100]} ... {reason[-150:]}"
            whole = [int(path.name) for path in self.folder.iterdir() if path.name.isdigit()]
            last = f"the last good one is of step {max(whole)}" if whole else "there is none yet"
            raise RunError(f"a checkpoint could not be written into {self.folder}: {reason}; {last}") from error


def read_metadata(folder: str | Path) -> Metadata:
    """Reads the metadata of the checkpoint that `find` finds in a folder."""
    step_folder = find(folder)
    fields = read_json(step_folder / "metadata" / "metadata")
    with _explained(step_folder):
        return Metadata.from_dict(fields, str(step_folder))


def load(folder: str | Path) -> tuple[models.Segmentor, dict, Metadata]:
    """Loads the model, its variables on the first device and the metadata from the checkpoint that `find` finds.

    Raises InputError if there is no checkpoint, or if it is damaged.
    """
    step_folder, metadata = find(folder), read_metadata(folder)
    with _explained(step_folder), _verified(step_folder, "variables"):
        model = models.create(**metadata.model)
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shapes = jax.tree.map(lambda shape: shape.update(sharding=device), models.shapes(model))
    with _explained(step_folder), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        return model, reader.restore(step_folder / "variables", args=ocp.args.StandardRestore(shapes)), metadata


def fingerprint(folder: str | Path) -> str:
    """Returns what is different for any two checkpoints whose variables, net, normalisation or classes differ."""
    step_folder = find(folder)
    files = [step_folder / "metadata" / "metadata", step_folder / "variables" / _DIGESTS]
    if not files[1].exists():  # of a version before
        files = sorted(path for path in step_folder.rglob("*") if path.is_file())
    return hashlib.sha256("".join(map(_digest, files)).encode()).hexdigest()


def find(folder: str | Path) -> Path:
    """Finds the folder of one step: the best, else the latest of a training run, else the newest in `folder`.

    `folder` may also be that of the step itself.
    """
    folder = Path(folder).expanduser().absolute()
    for root in (folder / "best", folder / "latest", folder):
        if root.is_dir():
            steps = [path for path in root.iterdir() if path.name.isdigit() and _is_step(path)]
            if steps:
                return max(steps, key=lambda path: int(path.name))
    if _is_step(folder):
        return folder
    if folder.is_file():
        raise InputError(f"{folder} is a file, not a checkpoint folder; `openseg convert import` makes one of a .pth")
    if not folder.is_dir():
        raise InputError(f"there is no checkpoint folder {folder}")
    raise InputError(f"{folder} contains no checkpoint; PyTorch files are imported by `openseg convert import`")


def _is_step(folder: Path) -> bool:
    return (folder / "metadata").is_dir() and (folder / "variables").is_dir()


@contextlib.contextmanager
def _verified(step_folder: Path, *parts: str) -> Iterator[None]:
    """Compares the files of some parts with their digests, in threads, while the block does something else.

    Raises InputError if files are damaged or missing.
    """
    digests = {}
    for part in parts:
        if not (step_folder / part / _DIGESTS).exists() and _is_without_digests(step_folder):
            continue
        recorded = read_json(step_folder / part / _DIGESTS)
        if not isinstance(recorded, dict):
            raise _damaged(step_folder / part / _DIGESTS)
        digests |= {step_folder / part / name: digest for name, digest in recorded.items()}
    with ThreadPoolExecutor() as pool:
        found = [pool.submit(_digest, path) for path in digests]
        yield
        for (path, digest), future in zip(digests.items(), found, strict=True):
            if future.result() != digest:
                raise _damaged(path)


def _is_without_digests(step_folder: Path) -> bool:
    return read_json(step_folder / "metadata" / "metadata").get("format") == _WITHOUT_DIGESTS


def _digest(path: Path) -> str:
    """Returns the SHA-256 of a file, which is mapped: reading it in pieces would wait for the interpreter's lock."""
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return hashlib.sha256().hexdigest()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return hashlib.sha256(content).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}, a file of a checkpoint: {error.strerror}") from error


def _digest_of_json(fields: dict) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _damaged(path: str | Path) -> InputError:
    return InputError(f"{path} is damaged: it is not what was written; take another checkpoint, or a copy of this one")


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turns errors of the storage library, and of models that its metadata cannot mean, into one sentence."""
    try:
        yield
    except InputError as error:
        raise error if str(folder) in str(error) else InputError(f"the checkpoint in {folder}: {error}") from error
    except Exception as error:
        what = "does not fit the net, the optimizer or the version that it is used for"
        raise InputError(f"the checkpoint in {folder} {what}: {str(error)[:300]}") from error
