"""What a checkpoint knows is compared with what it is used for."""

import dataclasses

import pytest

from openseg_jax.agreement import changes, fitting_classes, settings_of_run
from openseg_jax.checkpoints import Metadata
from openseg_jax.config import Config, EvalSettings
from openseg_jax.data.normalize import Normalization
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable

TABLE = {
    "title": "ours",
    "void": [9],
    "flip_pairs": [["Left_Arm", "road"]],
    "classes": [
        {"name": "Left_Arm", "id": 3, "color": [1, 2, 3], "aliases": [4]},
        {"name": "road", "id": 7, "color": [4, 5, 6]},
        {"name": "sky", "id": 1, "color": [7, 8, 9]},
    ],
}


def metadata(names=None, config=None):
    classes = names and ClassTable.from_dict({"title": "theirs", "classes": names}, "x")
    return Metadata({"num_classes": 3}, Normalization(), classes, config=config)


def test_classes_come_in_the_order_of_the_net():
    ours = ClassTable.from_dict(TABLE, "ours")
    found = fitting_classes(ours, metadata(["sky", "left arm", "Road"]), "run")
    assert found.names == ("sky", "Left_Arm", "road")
    assert found.ids == (1, 3, 7)
    assert found.aliases == ((), (4,), ())
    assert found.colors[1] == (1, 2, 3)
    assert found.flip_pairs == ((1, 2),)
    assert found.lookup[[3, 4, 7, 1, 9]].tolist() == [1, 1, 2, 0, 255]
    assert fitting_classes(ours, metadata(), "run") is ours
    assert fitting_classes(ours, metadata(ours.names), "run") is ours


@pytest.mark.parametrize("names", [["sky", "left arm", "sea"], ["a", "b", "c"]])
def test_other_classes_are_refused(names):
    with pytest.raises(InputError, match="run has learnt the classes of theirs, and ours has others"):
        fitting_classes(ClassTable.from_dict(TABLE, "ours"), metadata(names), "run")


def test_a_net_is_tested_as_it_was_validated_unless_something_else_is_given():
    trained = metadata(config={"eval": {"min_side": 60, "protocol": "ms", "scales": [0.5, 1.0], "batch_size": 7}})
    found, taken = settings_of_run(EvalSettings(), trained)
    assert (found.min_side, found.protocol, found.scales, found.batch_size) == (60, "ms", (0.5, 1.0), 4)
    assert taken == {"min_side": 60, "protocol": "ms", "scales": [0.5, 1.0]}
    found, taken = settings_of_run(EvalSettings(protocol="flip"), trained, given=["min_side"])
    assert (found.min_side, found.protocol, found.scales, taken) == (0, "flip", (), {})
    assert settings_of_run(EvalSettings(), metadata()) == (EvalSettings(), {})


def test_what_changed_since_the_checkpoint_is_listed():
    before = Config()
    now = dataclasses.replace(before, train=dataclasses.replace(before.train, batch_size=3, log_every=7))
    found = changes(now, metadata(config=before.to_dict()))
    assert found == [f"train.batch_size from {before.train.batch_size} to 3"]
    assert changes(before, metadata(config=before.to_dict())) == []
