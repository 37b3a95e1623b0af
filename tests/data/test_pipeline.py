"""The order and content of training batches."""

import itertools
import json

import numpy as np
import pytest

from openseg_jax.config import typed
from openseg_jax.data import FolderSource, Mixture, SyntheticSource, load_classes
from openseg_jax.data.augmentation import Augmentation
from openseg_jax.data.collate import Collate
from openseg_jax.data.pipeline import TrainSamples, train_batches
from openseg_jax.errors import InputError
from tests.data import folders

AUGMENTATION = Augmentation(crop=(32, 40))  # and otherwise the defaults
SOURCE = SyntheticSource("train", 10, (40, 48))


def samples(source=SOURCE, augmentation=AUGMENTATION, collate=Collate(size=(32, 40)), seed=5, batch_size=4):  # noqa: B008
    return TrainSamples(source, augmentation, collate, seed, batch_size)


def stream(count, *, start=0, of=None, **options):
    return list(itertools.islice(train_batches(of or samples(), start_step=start, **options), count))


def assert_same(a, b):
    for left, right in zip(a, b, strict=True):
        assert left.keys() == right.keys()
        for key in left:
            np.testing.assert_array_equal(left[key], right[key])


@pytest.fixture(scope="module")
def uninterrupted():
    return stream(8)  # three epochs of ten samples


def test_batches(uninterrupted):
    batch = uninterrupted[0]
    assert {key: (x.shape, x.dtype.name) for key, x in batch.items()} == {
        "image": ((4, 32, 40, 3), "uint8"),
        "label": ((4, 32, 40), "uint8"),
        "box": ((4, 4), "int32"),
    }
    assert_same(stream(8), uninterrupted)
    assert not np.array_equal(stream(1, of=samples(seed=6))[0]["image"], batch["image"])


def test_batches_of_one():
    assert [len(batch["label"]) for batch in stream(3, of=samples(batch_size=1))] == [1, 1, 1]


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_nothing(uninterrupted, workers):
    assert_same(stream(5, workers=workers), uninterrupted[:5])


@pytest.mark.parametrize("start", [1, 3, 7])
def test_resuming_changes_nothing(uninterrupted, start):
    assert_same(stream(8 - start, start=start), uninterrupted[start:])


def test_processes_share_the_same_batch(uninterrupted):
    parts = [stream(4, process=(rank, 2)) for rank in range(2)]
    joined = [{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*parts, strict=True)]
    assert_same(joined, uninterrupted[:4])


class Numbered:
    """Whose samples show their number, and a second number."""

    def __init__(self, count, of=0, classes=SOURCE.classes):
        self.count, self.of, self.classes, self.names = count, of, classes, [str(i) for i in range(count)]

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"image": np.full((4, 4, 3), index, np.uint8), "label": np.full((4, 4), self.of, np.uint8)}

    def size(self, index):
        return 4, 4


def numbers(source, count, batch_size=4):
    """(number, second number) of so many samples of the stream."""
    stream = samples(source, Augmentation(chain=()), Collate(size=(4, 4)), seed=0, batch_size=batch_size)
    batches = itertools.islice(train_batches(stream), count // batch_size)
    return [(int(i), int(s)) for b in batches for i, s in zip(b["image"][:, 0, 0, 0], b["label"][:, 0, 0], strict=True)]


def test_every_epoch_has_every_sample_in_another_order():
    order = np.array([i for i, _ in numbers(Numbered(12), 36)]).reshape(3, 12)
    assert all(sorted(epoch) == list(range(12)) for epoch in order)
    assert len({tuple(epoch) for epoch in order}) == 3


def test_a_joined_source_has_every_sample_once_per_epoch():
    joined = Mixture([Numbered(3), Numbered(5, of=1)])
    seen = numbers(joined, 16)
    assert set(seen[:8]) == set(seen[8:]) == {*((i, 0) for i in range(3)), *((i, 1) for i in range(5))}
    assert joined.size(7) == (4, 4)
    assert joined.names[3:5] == ["0", "1"]


def test_a_mixture_by_weight():
    """With equal weights positions alternate, as in the original; a small part starts its next epoch meanwhile."""
    alternating = numbers(Mixture([Numbered(3), Numbered(5, of=1)], (1, 1)), 40)
    assert [of for _, of in alternating] == [0, 1] * 20
    assert sorted(i for i, of in alternating[:10] if of) == list(range(5))
    assert sorted(i for i, of in alternating[:6] if not of) == list(range(3))
    thrice = numbers(Mixture([Numbered(3), Numbered(5, of=1)], (3, 1)), 40)
    assert sum(of for _, of in thrice) == 10


def test_what_cannot_be_mixed():
    with pytest.raises(InputError, match="CamVid .11 classes. cannot be joined to synthetic textures .6 classes."):
        Mixture([Numbered(3), Numbered(3, classes=load_classes("camvid"))])
    extra = {"split": "val"}
    for weights, says in (((1.0, 0.0), "numbers above 0"), ((1.0,), "one for each of data.extra, 2 in all")):
        with pytest.raises(InputError, match=says):
            typed({"data": {"extra": (extra,), "weights": weights}})


def test_every_batch_has_one_of_several_sizes():
    several = samples(collate=Collate("multi_size", sizes=((32, 40), (48, 40), (40, 64))))
    shapes = [batch["image"].shape[1:3] for batch in stream(12, of=several)]
    assert set(shapes) == {(32, 40), (48, 40), (40, 64)}
    assert [b["image"].shape[1:3] for b in stream(4, start=8, of=several, process=(1, 2))] == shapes[8:]


def test_a_sample_can_be_made_again():
    """From its position in the stream: which sample, and the steps, as data."""
    of = samples()
    batch = stream(1, start=6, of=of)[0]
    index, steps = of.index(26), of.steps(26, SOURCE.size(0))
    sample = SOURCE[index]
    for step in steps:
        sample = step(sample)
    np.testing.assert_array_equal(batch["image"][2], sample["image"])
    assert json.dumps([step.to_dict() for step in steps])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sample_reaches_the_user_as_its_sentence(tmp_path, workers):
    root = folders.write(tmp_path)
    folders.save(root / "train" / "label" / "scene4.png", np.full((33, 64), 42, np.uint8))
    source = FolderSource(str(root), "train", load_classes(str(root / "classes.json")))
    with pytest.raises(InputError, match="scene4.png contains the ids 42"):
        stream(4, of=samples(source, batch_size=3), workers=workers)
