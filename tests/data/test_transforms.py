"""Transforms against the original's, with the original's random numbers."""

import dataclasses
import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from openseg_jax.config.schema import ResizeSettings
from openseg_jax.data import transforms as T
from openseg_jax.data.augmentation import Augmentation
from openseg_jax.data.normalize import Normalization, normalize
from tests.conftest import golden

Z = golden("transforms.npz")
CALLS = golden("transforms_random_calls.json")
MAPS = {"label": "label", "edge": "mask", "distance": "distance", "angle": "angle"}
INPUT = {"image": Z["in_img"]} | {ours: Z[f"in_{theirs}"] for ours, theirs in MAPS.items()}
SWAP = ((14, 15), (1, 2))
MEAN = (103, 116, 123)


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


def one(name, **settings):
    """The transform of this name alone."""
    return Augmentation(chain=(name,), **settings)


def augmented(augmentation, sample, rng):
    return T.apply(augmentation.draw(T.size_of(sample), rng), sample)


def assert_equals_golden(sample, name, maps=MAPS, levels=1):
    for ours in maps:
        np.testing.assert_array_equal(sample[ours], Z[f"{name}__{MAPS[ours]}"], err_msg=ours)
        assert sample[ours].dtype == INPUT[ours].dtype
    assert sample["image"].shape == Z[f"{name}__img"].shape
    assert sample["image"].dtype == np.uint8
    difference = np.abs(sample["image"].astype(int) - Z[f"{name}__img"])
    assert difference.max() <= levels  # OpenCV versions round cubic interpolation differently by one grey level


# What the original can do besides, and no recipe of it does, is built here on top of our transforms.


@dataclasses.dataclass(frozen=True)
class Half:
    """Acts with a probability of a half: each transform draws the number with which the original decides that."""

    transform: Augmentation

    def draw(self, size, rng):
        decisions = []

        class Watched:
            uniform, integers = rng.uniform, rng.integers

            def random(self):
                decisions.append(rng.random())
                return decisions[-1]

        steps = self.transform.draw(size, Watched())
        return [] if decisions[-1] > 0.5 else steps


@dataclasses.dataclass(frozen=True)
class Does:
    """steps: (height, width, rng) -> Step."""

    step: Callable

    def draw(self, size, rng):
        return [self.step(*size, rng)]


def resized(factor, bound=math.inf):
    """Resizing by factor(height, width, rng) and a random aspect ratio, down to a longest side."""

    def step(height, width, rng):
        scale, aspect = factor(height, width, rng), rng.uniform(0.9, 1.1)
        rng.random()
        sides = [height * (math.sqrt(1 / aspect) * scale), width * (math.sqrt(aspect) * scale)]
        excess = max(1, max(sides) / bound)
        return T.Step(T.resize, height=int(sides[0] / excess), width=int(sides[1] / excess))

    return Does(step)


def grid_crop(height, width, rows, columns):
    def step(full_height, full_width, rng):
        left = rng.integers(0, columns - 1, endpoint=True) * ((full_width - width) // (columns - 1))
        top = rng.integers(0, rows - 1, endpoint=True) * ((full_height - height) // (rows - 1))
        rng.random()
        return T.Step(T.crop, top=top, left=left, height=height, width=width)

    return Does(step)


def padded(top, left, bottom, right, color):
    """Padding that is an edge and shows a colour."""

    def pad(sample, **canvas):
        result = T.pad(sample, **canvas)
        first_row, first_column, rows, columns = result["box"]
        outside = np.ones(result["label"].shape, bool)
        outside[first_row : first_row + rows, first_column : first_column + columns] = False
        for name, value in (("image", color), ("edge", 1)):
            result[name][outside] = np.array(value).astype(np.uint8)
        return result

    def step(height, width, rng):
        rng.random()
        return T.Step(pad, top=top, left=left, height=height + top + bottom, width=width + left + right)

    return Does(step)


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("hflip_yes", one("random_flip", swap=SWAP, legacy_angle=True)),
        ("hflip_no", one("random_flip", swap=SWAP)),
        ("hflip_noswap", one("random_flip", legacy_angle=True)),
        ("brightness_p7", Half(one("random_brightness", brightness=10))),
        ("brightness_m10", Half(one("random_brightness", brightness=10))),
        ("contrast_1p37", Half(one("random_contrast"))),
        ("perm_3", Half(one("random_permute"))),
        ("rresize_1p37_a1p05", Half(one("random_resize"))),
        ("rresize_0p61_a0p93", Half(one("random_resize"))),
        ("rresize_maxside60", Half(resized(lambda h, w, rng: rng.uniform(0.5, 2.0), bound=60))),
        ("rresize_bound_30_60", Half(resized(lambda h, w, rng: min(30 / min(h, w), 60 / max(h, w))))),
        ("rresize_scalelist", Half(resized(lambda h, w, rng: (0.75, 1.0, 1.5)[rng.integers(0, 2, endpoint=True)]))),
        ("rresize_skipped", Half(one("random_resize"))),
        ("resize_target_40x40", one("resize", resize=ResizeSettings(size=(40, 40)))),
        ("resize_min30", one("resize", resize=ResizeSettings(min_side=30))),
        ("resize_min50", one("resize", resize=ResizeSettings(min_side=50))),
        ("resize_min50_bound64", one("resize", resize=ResizeSettings(min_side=50, bound=64))),
        (
            "resize_max40",
            Does(
                lambda h, w, rng: T.Step(
                    T.resize, **dict(zip(("height", "width"), T.max_side_size(h, w, 40), strict=True))
                )
            ),
        ),
        ("crop_random_32x24", Half(one("random_crop", crop=(24, 32)))),
        ("crop_random_larger_than_image", Half(one("random_crop", crop=(24, 80)))),
        ("crop_center_32x24", Half(one("center_crop", crop=(24, 32)))),
        ("crop_center_31x24", Half(one("center_crop", crop=(24, 31)))),
        ("crop_grid_2_1", Half(grid_crop(24, 32, 2, 3))),
        ("crop_skipped", Half(one("random_crop", crop=(24, 32)))),
        ("pad_3_4_5_6", padded(4, 3, 6, 5, MEAN)),
        ("pad_fracmean", padded(4, 3, 6, 5, (0.485, 0.456, 0.406))),
        ("pad_negative", padded(4, -3, -6, 5, MEAN)),
    ],
)
def test_transform_equals_golden(name, transform):
    rng = Recorded(CALLS[name])
    assert_equals_golden(augmented(transform, INPUT, rng), name)
    assert not rng.calls


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("saturation_0p6", Half(one("random_saturation"))),
        ("saturation_1p45", Half(one("random_saturation"))),
        ("hue_m15", Half(one("random_hue", hue=18))),
        ("hue_p12p5", Half(one("random_hue", hue=18))),
    ],
)
def test_colour_in_hsv_equals_golden(name, transform):
    """The goldens' pixels are blue, green, red."""
    sample = augmented(transform, INPUT | {"image": INPUT["image"][..., ::-1]}, Recorded(CALLS[name]))
    assert_equals_golden(sample | {"image": sample["image"][..., ::-1]}, name)


@pytest.mark.parametrize("name", ["rotate_7p3", "rotate_m10"])
def test_rotation(name):
    """The image is the original's, whose corners show the mean; labels, whose ids it interpolates, are nearest."""
    sample, white = (
        augmented(one("random_rotate", rotate=10), INPUT | {"image": image}, Recorded(CALLS[name]))
        for image in (INPUT["image"], np.full_like(INPUT["image"], 255))
    )
    corners = (1 - white["image"] / 255) * MEAN
    sample["image"] = np.rint(sample["image"] + corners).astype(np.uint8)
    assert_equals_golden(sample, name, maps=(), levels=2)  # OpenCV 4 rounds places to 1/32 pixel
    assert set(np.unique(sample["label"])) <= {*np.unique(INPUT["label"]), 255}
    theirs = Z[f"{name}__label"]
    invented = ~np.isin(theirs, [*np.unique(INPUT["label"]), 255])
    assert invented.any()  # the original's defect
    assert [sample[name][0, 0] for name in MAPS][:3] == [255, 0, 255]
    assert abs(sample["angle"]).max() <= 180


def test_a_turned_direction_turns_along():
    """A direction that points right points up after a quarter turn counter-clockwise: (sin, cos) is (down, right)."""
    sample = {"image": np.zeros((9, 9, 3), np.uint8), "angle": np.zeros((9, 9))}
    turned = T.rotate(sample, 90.0, 9, 9)
    assert turned["angle"][4, 4] == -90
    assert T.flip(sample)["angle"][4, 4] == 180
    assert T.flip(sample, legacy_angle=True)["angle"][4, 4] == 0  # the original leaves exactly horizontal ones


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("recipe", ["cityscapes", "ade20k"])
def test_chains_equal_the_original_seed_by_seed(recipe, order, seed):
    """Driven by Python's generator, as the original is; the order of the channels does not matter to the chain."""
    chain = {
        "cityscapes": ("random_resize", "random_crop", "random_flip", "random_brightness"),
        "ade20k": ("random_flip", "resize", "random_resize", "random_crop", "random_brightness"),
    }[recipe]
    chain = Augmentation(chain=chain, crop=(24, 32), resize=ResizeSettings(min_side=32), swap=((14, 15),))
    sample = augmented(chain, {"image": Z["in_img"], "label": Z["in_label"]}, PythonRandom(seed))
    assert_equals_golden(sample, f"compose_{recipe}_{order}_seed{seed}", maps=("label",))


def test_resize_to_min_side_rounds_half_to_even():
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


def test_blur_keeps_the_mean():
    rng = Recorded([("random", 0.4), ("uniform", 1.5, 1.5, 1.5)])
    blurred = augmented(one("random_blur", blur=(1.5, 1.5)), INPUT, rng)
    image = INPUT["image"].astype(float)
    assert blurred["image"].std() < image.std()
    assert abs(blurred["image"].mean() - image.mean()) < 1


def test_draws_are_a_record():
    """Steps drawn from the size alone, as data, give the sample that the chain gives."""
    names = "random_resize", "random_rotate", "random_crop", "random_flip", "random_contrast"
    chain = Augmentation(chain=names, rotate=5, crop=(24, 32))
    steps = chain.draw(INPUT["label"].shape, np.random.default_rng(3))
    record = [step.to_dict() for step in steps]
    assert record[0].keys() == {"transform", "height", "width"}
    replayed = INPUT
    for step in record:
        replayed = getattr(T, step.pop("transform"))(replayed, **step)
    direct = augmented(chain, INPUT, np.random.default_rng(3))
    for name in direct:
        np.testing.assert_array_equal(replayed[name], direct[name])
