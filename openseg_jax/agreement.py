"""What a checkpoint knows about itself, compared with what it is used for."""

import dataclasses
import json
from collections.abc import Collection, Iterator

from openseg_jax.checkpoints import Metadata
from openseg_jax.config import Config, EvalSettings, typed
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable

# Fields of `eval` that a net is tested with as it was validated. Of each group, either all or none are taken over.
_TESTING = (
    ("min_side", "size", "pad_size", "pad_stride"),
    ("protocol", "scales", "scale_weights", "crop", "crop_stride", "crop_window"),
    ("swap",),
    ("left_out",),
)
# Fields on which the result of a run does not depend.
_HARMLESS = ("data.workers", "data.cache", "data.check", "train.log_every", "train.log_images", "train.save_every")


def fitting_classes(classes: ClassTable, metadata: Metadata, checkpoint: str) -> ClassTable:
    """Returns the classes of data in the order of the net's outputs.

    Classes are the same if their names are, whatever their case, and `_` for a space. A checkpoint that does not know
    its classes has to have as many.

    Raises:
        InputError: The net has learnt other classes.
    """
    count, known = metadata.model["num_classes"], metadata.classes
    if count != len(classes):
        what = f"{checkpoint} holds a net of {count} classes, but {classes.title} has {len(classes)}"
        raise InputError(f"{what}: take the checkpoint of another data set, or another config")
    if known is None:
        return classes
    theirs, ours = ([_spelled(name) for name in table.names] for table in (known, classes))
    others = [name for name, spelled in zip(classes.names, ours, strict=True) if spelled not in theirs]
    if others or len(set(ours)) < len(ours):
        lost = [name for name, spelled in zip(known.names, theirs, strict=True) if spelled not in ours]
        raise InputError(
            f"{checkpoint} has learnt the classes of {known.title}, and {classes.title} has others, such as "
            f"{(others or ours)[0]!r} where the net has {(lost or theirs)[0]!r}: take the checkpoint of another data "
            "set, or give these classes the names that the net knows"
        )
    return classes.reordered([ours.index(name) for name in theirs])


def settings_of_run(
    settings: EvalSettings, metadata: Metadata, given: Collection[str] = ()
) -> tuple[EvalSettings, dict[str, object]]:
    """Returns settings in which those of the checkpoint's run replace defaults, and what was replaced.

    given: Names of fields that stay as they are even if they have the value of the default.
    """
    default, ours = (_plain(dataclasses.asdict(found)) for found in (EvalSettings(), settings))
    theirs, taken = _plain((metadata.config or {}).get("eval", {})), {}
    for group in _TESTING:
        if all(ours[name] == default[name] and name not in given for name in group):
            taken |= {name: theirs[name] for name in group if theirs.get(name, ours[name]) != ours[name]}
    return (typed({"eval": ours | taken}).eval if taken else settings), taken


def changes(config: Config, metadata: Metadata) -> list[str]:
    """Lists the fields of a config that are others than in the run that made the checkpoint, with both values."""
    before, now = dict(_fields(_plain(metadata.config or {}))), dict(_fields(_plain(config.to_dict())))
    differing = [name for name in now if name in before and before[name] != now[name] and name not in _HARMLESS]
    return [f"{name} from {before[name]} to {now[name]}" for name in differing]


def _spelled(name: str) -> str:
    return name.replace("_", " ").casefold()


def _plain(value):
    """Returns a value as JSON gives it back: lists in place of tuples."""
    return json.loads(json.dumps(value))


def _fields(tree: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
