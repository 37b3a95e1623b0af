"""Buckets, and that batches of them have each image exactly once."""

import numpy as np
import pytest

from openseg_jax.data import FolderSource, load_classes
from openseg_jax.inference.batches import eval_batches
from openseg_jax.inference.buckets import make_buckets
from tests.data import folders


def test_buckets_of_one_size_have_no_padding():
    (bucket,) = make_buckets([(360, 480)] * 7, max_buckets=4)
    assert (bucket.canvas, bucket.indices) == ((360, 480), tuple(range(7)))


def test_buckets_cover_all_images_with_little_padding():
    rng = np.random.default_rng(0)
    sizes = [
        (int(h), int(w))
        for h, w in np.concatenate([rng.normal((500, 680), 30, (60, 2)), rng.normal((680, 500), 30, (40, 2))])
    ]
    buckets = make_buckets(sizes, max_buckets=3, multiple=8)
    assert len(buckets) == 3
    assert sorted(index for bucket in buckets for index in bucket.indices) == list(range(100))
    for bucket in buckets:
        assert bucket.canvas[0] % 8 == 0
        assert all(np.all(np.array(sizes[index]) <= bucket.canvas) for index in bucket.indices)
    padded = sum(len(bucket.indices) * bucket.canvas[0] * bucket.canvas[1] for bucket in buckets)
    real = sum(height * width for height, width in sizes)
    one = max(h for h, _ in sizes) * max(w for _, w in sizes) * 100
    assert padded < 1.35 * real < one


@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_sees_each_image_once(tmp_path, processes):
    root = folders.write(tmp_path, counts=(1, 7))
    source = FolderSource(str(root), "val", load_classes(str(root / "classes.json")))
    buckets = make_buckets([source.size(i) for i in range(7)], max_buckets=2)
    seen = []
    for rank in range(processes):
        for batch, failures, _ in eval_batches(source, buckets, batch_size=4, process=(rank, processes)):
            assert len(batch["index"]) == 4 // processes
            assert not failures
            rows = zip(*(batch[k] for k in ("index", "image", "box", "label")), strict=True)
            for index, image, (_, _, *size), label in rows:
                if index < 0:
                    assert (label == 255).all()
                    continue
                seen.append(index)
                sample = source[index]
                np.testing.assert_array_equal(image[: size[0], : size[1]], sample["image"])
                np.testing.assert_array_equal(label[: size[0], : size[1]], sample["label"])
                assert (label[size[0] :] == 255).all()
                assert (label[:, size[1] :] == 255).all()
    assert sorted(seen) == list(range(7))


def test_evaluation_at_another_size(tmp_path):
    root = folders.write(tmp_path, counts=(1, 3))
    source = FolderSource(str(root), "val", load_classes(str(root / "classes.json")))

    def half(height, width):
        return height // 2, width // 2

    buckets = make_buckets([source.size(i) for i in range(3)], max_buckets=1, input_size=half)
    ((batch, *_),) = eval_batches(source, buckets, batch_size=3, input_size=half)
    np.testing.assert_array_equal(batch["index"], [2, 0, 1], "by width")
    np.testing.assert_array_equal(batch["box"][:, 2:], [(24, 24), (20, 28), (16, 32)])
    np.testing.assert_array_equal(batch["label_box"][:, 2:], [(48, 48), (40, 56), (33, 64)])
    assert batch["image"].shape == (3, 24, 32, 3)
    assert batch["label"].shape == (3, 48, 64)
