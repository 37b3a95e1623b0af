"""A small data set, and a net for it."""

from openseg_jax import checkpoints
from openseg_jax.data import FolderSource, load_classes
from openseg_jax.data.normalize import Normalization
from tests import tiny
from tests.data import folders


def write(folder):
    """Writes nine images in three sizes, high enough to be split, and a checkpoint; returns folder, net and source."""
    root = folders.write(folder, counts=(6, 9), sizes=((140, 40), (133, 64), (151, 48)))
    model = tiny.create("hrnet_w48", num_classes=3)
    variables = tiny.random_variables(model)
    saved = checkpoints.Checkpoints(root / "checkpoint")
    classes = load_classes(str(root / "classes.json"))
    saved.save(variables, checkpoints.Metadata(model.spec.to_dict(), Normalization(), classes))
    saved.close()
    return root, model, variables, FolderSource(str(root), "val", classes)
