"""A damaged checkpoint is refused, whichever byte of it is another."""

import json
import shutil

import jax
import numpy as np
import pytest

from openseg_jax import checkpoints
from openseg_jax.data.normalize import Normalization
from openseg_jax.errors import InputError
from tests import tiny
from tests.robustness import FUZZ, attempt, generator


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a checkpoint with a training state, and what is in it."""
    folder = tmp_path_factory.mktemp("checkpoints") / "run"
    model = tiny.create("resnet18")
    variables = tiny.random_variables(model)
    training = {"momentum": jax.tree.map(np.ones_like, variables["params"])}
    metadata = checkpoints.Metadata(model.spec.to_dict(), Normalization(), step=3, config={"a": [1, 2.5]})
    manager = checkpoints.Checkpoints(folder)
    manager.save(variables, metadata, training)
    manager.close()
    return folder, (variables, training, metadata)


def restored(folder, content):
    """Reads a checkpoint as a run that continues does."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), content[:2])
    manager = checkpoints.Checkpoints(folder)
    try:
        return manager.restore(*shapes)
    finally:
        manager.close()


def assert_same(found, content):
    assert found[-1].to_dict()["digest"] == content[-1].to_dict()["digest"]
    jax.tree.map(np.testing.assert_array_equal, found[:-1], content[:-1])


def test_every_file_of_a_checkpoint_is_compared_with_its_digest(saved, tmp_path):
    folder, content = saved
    assert_same(restored(folder, content), content)
    unused = ("_CHECKPOINT_METADATA", "commit_success.txt")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in unused)
    rng, right = generator(0), 0
    for count in range(30 * FUZZ):
        copy = tmp_path / str(count)
        shutil.copytree(folder, copy)
        damaged = copy / rng.choice(files).relative_to(folder)
        mutate(damaged, rng)
        loaded, refused = attempt(checkpoints.load, copy)  # which does not read the training state
        whole, why = attempt(restored, copy, content)
        if loaded:
            assert_same(loaded[1:], (content[0], content[2]))
            right += 1
        assert whole is None
        assert str(copy) in refused + why
        shutil.rmtree(copy)
    print(f"{30 * FUZZ} inputs: {right} right for inference")


def mutate(path, rng):
    """Flips a bit of a file, cuts it, empties or removes it."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(["flip", "flip", "flip", "cut", "remove"])
    if kind == "remove" or not content:
        path.unlink()
        return
    place = rng.integers(len(content))
    if kind == "flip":
        content[place] ^= 1 << rng.integers(8)
    path.write_bytes(content if kind == "flip" else content[:place])


def test_metadata_that_is_another_is_refused_and_hostile_metadata_ends_in_a_sentence(saved, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(saved[0], copy)
    path = copy / "3" / "metadata" / "metadata"
    fields = json.loads(path.read_text())
    nothing = [], {}, 7, fields | {"format": 3}, fields | {"step": 4}, fields | {"format": 1}
    unsealed = {key: value for key, value in fields.items() if key != "digest"} | {"format": 1}
    hostile = [unsealed | {"model": value} for value in ({}, [], "x", {"name": "resnet18", "x": 1}, {"name": {}})]
    for content in (*nothing, *hostile, unsealed | {"normalization": {"mean": "x"}}):
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=str(copy)):
            checkpoints.load(copy)


def test_a_checkpoint_without_digests_is_read_as_before(saved, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(saved[0], copy)
    path = copy / "3" / "metadata" / "metadata"
    fields = json.loads(path.read_text())
    del fields["digest"]
    path.write_text(json.dumps(fields | {"format": 1}))
    for part in ("variables", "training"):
        (copy / "3" / part / "digests.json").unlink()
    assert_same(restored(copy, saved[1]), saved[1])
    assert checkpoints.fingerprint(copy) != checkpoints.fingerprint(saved[0])


def test_a_step_is_named_by_its_own_folder_too_and_a_file_is_no_folder(saved, tmp_path):
    assert checkpoints.find(saved[0] / "3") == checkpoints.find(saved[0])
    (tmp_path / "net.pth").touch()
    with pytest.raises(InputError, match=r"net.pth is a file, not a checkpoint folder"):
        checkpoints.find(tmp_path / "net.pth")
