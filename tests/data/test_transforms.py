"""Transforms against the original's, with the original's random numbers."""

import random

import numpy as np
import pytest

from openseg_jax.data import transforms as T
from openseg_jax.data.normalize import Normalization, normalize
from tests.conftest import golden

Z = golden("transforms.npz")
CALLS = golden("transforms_random_calls.json")
INPUT = {"image": Z["in_img"], "label": Z["in_label"]}


class Recorded:
    """Answers draws from a list of recorded calls, and insists on their order and arguments."""

    def __init__(self, calls):
        self.calls = list(calls)

    def _next(self, kind, *arguments):
        name, *rest = self.calls.pop(0)
        assert (name, rest[:-1]) == (kind, list(arguments))
        return rest[-1]

    def random(self):
        return self._next("random")

    def uniform(self, low, high):
        return self._next("uniform", low, high)

    def integers(self, low, high, endpoint):
        assert endpoint
        return self._next("randint", low, high)


class PythonRandom:
    """Python's generator, which drives the original, behind the interface of numpy's."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.random, self.uniform = self.rng.random, self.rng.uniform

    def integers(self, low, high, endpoint):
        return self.rng.randint(low, high)


def assert_equals_golden(sample, name):
    np.testing.assert_array_equal(sample["label"], Z[f"{name}__label"])
    assert sample["image"].shape == Z[f"{name}__img"].shape
    difference = np.abs(sample["image"].astype(int) - Z[f"{name}__img"])
    assert difference.max() <= 1  # OpenCV versions round cubic interpolation differently by one grey level


HALF = {"probability": 0.5}


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("hflip_yes", T.RandomFlip(swap=((14, 15), (1, 2)))),
        ("hflip_no", T.RandomFlip(swap=((14, 15), (1, 2)))),
        ("hflip_noswap", T.RandomFlip()),
        ("brightness_p7", T.RandomBrightness(10, **HALF)),
        ("brightness_m10", T.RandomBrightness(10, **HALF)),
        ("rresize_1p37_a1p05", T.RandomResize(**HALF)),
        ("rresize_0p61_a0p93", T.RandomResize(**HALF)),
        ("rresize_skipped", T.RandomResize(**HALF)),
        ("crop_random_32x24", T.RandomCrop(24, 32, **HALF)),
        ("crop_random_larger_than_image", T.RandomCrop(24, 80, **HALF)),
        ("crop_skipped", T.RandomCrop(24, 32, **HALF)),
    ],
)
def test_transform_equals_original(name, transform):
    rng = Recorded(CALLS[name])
    assert_equals_golden(transform(INPUT, rng), name)
    assert not rng.calls, "draws are left over"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_cityscapes_chain_equals_original(order, seed):
    chain = T.Compose((T.RandomResize(), T.RandomCrop(24, 32), T.RandomFlip(((14, 15),)), T.RandomBrightness(10)))
    assert_equals_golden(chain(INPUT, PythonRandom(seed)), f"compose_cityscapes_{order}_seed{seed}")


def test_resize_to_min_side_rounds_half_to_even():
    height, width = INPUT["label"].shape
    assert_equals_golden(T.resize(INPUT, *T.min_side_size(height, width, 30)), "resize_min30")
    assert T.min_side_size(4, 5, 2) == (2, 2)  # 2.5 -> 2, where rounding half up would give 3


@pytest.mark.parametrize(
    ("name", "normalization"),
    [
        ("normalize_255", Normalization(channels="rgb")),
        ("normalize_1", Normalization("rgb", 1.0, (102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0))),
    ],
)
def test_normalize_equals_original(name, normalization):
    image = Z["compose_val__img"]  # in the stored order of its channels, like mean and std
    box = np.array([[0, 0, *image.shape[:2]]])
    ours = normalize(image[None], box, normalization)[0].transpose(2, 0, 1)
    np.testing.assert_allclose(ours, Z[f"{name}__img"], atol=1e-5)


def test_normalize_bgr_reverses_rgb_pixels():
    image, box = Z["compose_val__img"][None], np.array([[0, 0, 32, 46]])
    as_bgr = normalize(image[..., ::-1], box, Normalization(channels="bgr"))
    np.testing.assert_array_equal(as_bgr, normalize(image, box, Normalization(channels="rgb")))


def test_padding_equals_original():
    collate = golden("collate.npz")
    for name, calls in golden("collate_calls.json").items():
        rng = Recorded(calls)
        for i in range(2):
            label = collate[f"in{i}_labelmap"].astype(np.uint8)  # -1 becomes 255
            sample = {"image": np.full((*label.shape, 3), 7, np.uint8), "label": label}
            if name == "fix_onlypad_pad_right_down":
                padded = T.pad(sample, 0, 0, 12, 16)
            else:
                padded = T.RandomPad(12, 16)(sample, rng)
            np.testing.assert_array_equal(padded["label"], collate[f"{name}__labelmap"][i].astype(np.uint8))
            # The original pads after normalisation; we pad before, and set the padding to 0 on the device.
            top, left, height, width = padded["box"]
            original = collate[f"{name}__img"][i][:, top : top + height, left : left + width]
            np.testing.assert_array_equal(original, collate[f"in{i}_img"])
            normalized = normalize(padded["image"][None], padded["box"][None], Normalization())[0]
            assert np.count_nonzero(normalized) == 3 * label.size
        assert not rng.calls


def test_random_pad_covers_every_place():
    sample = {"image": np.ones((2, 3, 3), np.uint8), "label": np.zeros((2, 3), np.uint8)}
    rng = np.random.default_rng(0)
    places = {tuple(T.RandomPad(4, 4)(sample, rng)["box"][:2]) for _ in range(200)}
    assert places == {(top, left) for top in range(3) for left in range(2)}
