"""Starts a run from the weights of another net, in a checkpoint folder or a PyTorch file."""

from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from openseg_jax import converters, models
from openseg_jax.checkpoints import load
from openseg_jax.config import PretrainedSettings
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable


def with_pretrained(
    variables: dict, model: models.Segmentor, settings: PretrainedSettings, classes: ClassTable
) -> tuple[dict, str]:
    """Replaces fresh variables of a net by those of a checkpoint; raises InputError if it does not fit.

    `settings.parts` are the "backbone"; "all", when the whole net must fit, its classes too; or "matching", every
    variable of the same name and shape, as for a net trained on other classes, when at least half of them do. Returns
    the variables, and a sentence that says what was replaced, "" without a checkpoint.
    """
    if not settings.checkpoint:
        return variables, ""
    path, parts, known = Path(settings.checkpoint).expanduser(), settings.parts, None
    if path.is_file():
        loaded, what = _from_pytorch(path, model, parts)
    else:
        _, loaded, metadata = load(path)
        what, known = str(metadata.model), metadata.classes
    if parts == "matching":
        return _matching(variables, loaded, path)
    if parts == "backbone":
        loaded = {name: variables[name] | {"backbone": tree["backbone"]} for name, tree in loaded.items()}
    shapes = [jax.tree.map(np.shape, tree) for tree in (loaded, variables)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{path} holds {what}, of which the {parts} does not fit {model.spec.to_dict()}; "
            "pretrained.parts=matching takes what fits"
        )
    if parts == "all" and known and known.names != classes.names:
        raise InputError(
            f"{path} has learnt the classes {', '.join(known.names)}, and these data have {', '.join(classes.names)}: "
            "pretrained.parts=backbone takes what does not depend on them"
        )
    return loaded, f"{'backbone' if parts == 'backbone' else 'all variables'} from {path}"


def _from_pytorch(path: Path, model: models.Segmentor, parts: str) -> tuple[dict, str]:
    state_dict, found = converters.read_recognised(path)
    # Weights of one norm may start a net of another, as the original's ImageNet weights do.
    norm, spec = found.norm[0] or model.spec.norm[0], model.spec
    if parts == "backbone":
        known = models.default_options(spec.backbone)
        options = {key: value for key, value in spec.options if key in known}
        wanted = models.create(spec.backbone, norm=norm, **options)
    elif found.name is None:
        raise InputError(f"{path} holds none of the models of openseg_jax; pretrained.parts=backbone may fit")
    else:
        wanted = models.create(**found.create_arguments())
    return converters.import_state_dict(state_dict, wanted, found), str(found.name)


def _matching(variables: dict, loaded: dict, file: Path) -> tuple[dict, str]:
    ours, theirs = traverse_util.flatten_dict(variables), traverse_util.flatten_dict(loaded)
    taken = {path: theirs[path] for path, x in ours.items() if path in theirs and theirs[path].shape == x.shape}
    if len(taken) < len(ours) / 2:
        raise InputError(f"only {len(taken)} of {len(ours)} variables of this net are in {file}: it is of another net")
    left = [".".join(path) for path in sorted(ours.keys() - taken.keys())]
    rest = f"; new are {', '.join(left[:4])}{' and others' if len(left) > 4 else ''}" if left else ""
    chosen = traverse_util.unflatten_dict(ours | taken)  # which leaves out statistics where there are none
    return variables | chosen, f"{len(taken)} of {len(ours)} variables from {file}{rest}"
