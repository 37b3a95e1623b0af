"""Checkpoint folders: FOLDER/STEP/{variables, training, metadata}, written by orbax, whole or not at all.

Training, evaluation, prediction and the converters share this one form. `variables` is what a net needs to run;
`training` is what else a run needs to continue, which only its own checkpoints have; `metadata` is JSON (`Metadata`).
"""

import contextlib
import dataclasses
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from openseg_jax import models
from openseg_jax.data.normalize import Normalization
from openseg_jax.errors import InputError, RunError
from openseg_jax.labels.classes import ClassTable

_FORMAT = 1


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
        return {"format": _FORMAT, **vars(self), "normalization": vars(self.normalization), "classes": classes}

    @classmethod
    def from_dict(cls, fields: dict, where: str) -> "Metadata":
        if fields.pop("format", None) != _FORMAT:
            raise InputError(f"{where} was written by another version of openseg_jax")
        classes = fields["classes"] and ClassTable.from_dict(fields["classes"], where)
        return cls(**fields | {"normalization": Normalization(**fields["normalization"]), "classes": classes})


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
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, variables: dict, metadata: Metadata, training: dict | None = None) -> None:
        """Saves a checkpoint of step `metadata.step`: returns when the arrays are copied, and writes in the background.

        Raises RunError if this checkpoint, or the one before, cannot be written.
        """
        parts = {"variables": ocp.args.StandardSave(variables), "metadata": ocp.args.JsonSave(metadata.to_dict())}
        if training is not None:
            parts["training"] = ocp.args.StandardSave(training)
        if metadata.step == self.latest_step():
            return  # a run that was resumed at its last step, and stopped there again
        with self._reported():
            self._manager.save(metadata.step, args=ocp.args.Composite(**parts))

    def restore(self, variables, training) -> tuple[dict, dict, Metadata]:
        """Returns `variables`, `training` and the metadata of the newest checkpoint.

        Both trees are given as jax.ShapeDtypeStruct with shardings, where their arrays then lie.
        """
        with _explained(self.folder):
            parts = {
                "variables": ocp.args.StandardRestore(variables),
                "training": ocp.args.StandardRestore(training),
                "metadata": ocp.args.JsonRestore(),
            }
            found = self._manager.restore(self.latest_step(), args=ocp.args.Composite(**parts))
            return found["variables"], found["training"], Metadata.from_dict(found["metadata"], str(self.folder))

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
    with _explained(step_folder), ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return Metadata.from_dict(reader.restore(step_folder / "metadata"), str(step_folder))


def load(folder: str | Path) -> tuple[models.Segmentor, dict, Metadata]:
    """Loads the model, its variables on the first device and the metadata from the checkpoint that `find` finds.

    Raises InputError if there is no checkpoint, or if it is damaged.
    """
    step_folder = find(folder)
    metadata = read_metadata(folder)
    model = models.create(**metadata.model)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.tree.map(lambda shape: shape.update(sharding=device), models.shapes(model))
    with _explained(step_folder), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        return model, reader.restore(step_folder / "variables", args=ocp.args.StandardRestore(shapes)), metadata


def find(folder: str | Path) -> Path:
    """Finds the folder of one step: the best, else the latest of a training run, else the newest in `folder`."""
    folder = Path(folder).expanduser().absolute()
    for root in (folder / "best", folder / "latest", folder):
        if root.is_dir():
            steps = [path for path in root.iterdir() if path.name.isdigit() and (path / "metadata").is_dir()]
            if steps:
                return max(steps, key=lambda path: int(path.name))
    if not folder.is_dir():
        raise InputError(f"there is no checkpoint folder {folder}")
    raise InputError(f"{folder} contains no checkpoint; PyTorch files are imported by `openseg convert import`")


@contextlib.contextmanager
def _explained(folder: Path):
    """Turns errors of the storage library into one sentence."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"the checkpoint in {folder} is damaged or of another model: {str(error)[:300]}") from error
