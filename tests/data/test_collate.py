"""Bringing samples to common sizes, against the original's collate function and its random numbers."""

import numpy as np
import pytest

from openseg_jax.config import typed
from openseg_jax.data import transforms
from openseg_jax.data.collate import Collate
from openseg_jax.errors import InputError
from tests.conftest import golden
from tests.data.test_transforms import Recorded

ARRAYS, CASES = golden("collate.npz"), golden("collate.json")
MAPS = {"label": "labelmap", "edge": "maskmap", "distance": "distance_map", "angle": "angle_map"}


def samples(maps):
    """Two samples of 9x14 and 11x10 pixels with normalised images."""
    found = []
    for i in range(2):
        sample = {ours: ARRAYS[f"in{i}_{theirs}"] for ours, theirs in MAPS.items() if ours in maps}
        sample["label"] = sample["label"].astype(np.uint8)  # -1 becomes 255
        found.append(sample | {"image": ARRAYS[f"in{i}_img"].transpose(1, 2, 0)})
    return found


def collate(config, batch, rng):
    """The original's collation of a batch. Two of its modes, sizes that depend on the samples, exist only here."""
    turned = {"size": config.get("input_size"), "sizes": config.get("ms_input_size")}
    turned["size"] = turned["size"] and tuple(turned["size"][::-1])  # the original writes sizes as (width, height)
    turned["sizes"] = tuple(tuple(size[::-1]) for size in turned["sizes"] or ())
    options = {"align": config["align_method"], "place": config.get("pad_mode", "random")}
    options["stride"] = config.get("fit_stride", 1)
    if config["size_mode"] in ("fix_size", "multi_size"):
        of_batch = Collate(config["size_mode"], **turned, **options)
        return fitted(of_batch, [of_batch.target(rng)] * len(batch), batch, rng)
    sizes = [sample["image"].shape[:2] for sample in batch]
    if config["size_mode"] == "max_size":
        sizes = [tuple(map(max, zip(*sizes, strict=True)))] * len(batch)
    return [fitted(own := Collate(size=size, **options), [own.target(rng)], [sample], rng)[0]
            for size, sample in zip(sizes, batch, strict=True)]  # fmt: skip


def fitted(of_batch, targets, batch, rng):
    return [
        transforms.apply(of_batch.draw(transforms.size_of(sample), target, rng), sample)
        for target, sample in zip(targets, batch, strict=True)
    ]


def fit(sample, target, rng, **options):
    """One sample, brought to a size."""
    return fitted(Collate(**options), [target], [sample], rng)[0]


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name]["border"]])
def test_collate_equals_golden(name):
    case = CASES[name]
    maps = [ours for ours, theirs in MAPS.items() if any(f"{name}__{theirs}" in key for key in ARRAYS)]
    rng = Recorded(case["calls"])
    batch = collate(case["config"], samples(maps), rng)
    assert not rng.calls
    for i, sample in enumerate(batch):
        diverse = case["config"]["size_mode"] == "diverse_size"
        expected = {
            theirs: ARRAYS[f"{name}__{theirs}_{i}"] if diverse else ARRAYS[f"{name}__{theirs}"][i]
            for theirs in ("img", *(MAPS[ours] for ours in maps))
        }
        np.testing.assert_allclose(sample["image"].transpose(2, 0, 1), expected["img"], atol=1e-5)
        for ours in maps:
            np.testing.assert_array_equal(
                sample[ours], expected[MAPS[ours]].astype(np.uint8 if ours == "label" else None), err_msg=ours
            )
        assert sample["box"][2:].tolist() == case["border"][i][::-1]


def test_what_the_original_gets_wrong_is_right_or_an_error():
    two = samples(("label",))
    with pytest.raises(InputError, match=r"a sample of 9x14 \(height x width\) does not fit into a batch of 12x12"):
        fit(two[0], (12, 12), np.random.default_rng(0))
    with pytest.raises(InputError, match=r"collate\.mode must be \"fix_size\" or \"multi_size\", found 'foo'"):
        typed({"augment": {"collate": {"mode": "foo"}}})
    with pytest.raises(InputError, match=r"collate\.mode=multi_size needs augment\.collate\.sizes"):
        typed({"augment": {"collate": {"mode": "multi_size"}}})
    # the original cannot scale a sample that has edges
    scaled = fit(samples(("label", "edge"))[0], (12, 16), np.random.default_rng(0), align="only_scale")
    assert scaled["edge"].shape == (12, 16)


def test_scaling_pixels_rounds():
    image = np.array([[[0], [5]]], np.uint8).repeat(3, -1)
    sample = fit({"image": image}, (1, 3), np.random.default_rng(0), align="only_scale")
    assert sample["image"][0, :, 0].tolist() == [0, 2, 5]  # half to even


def test_random_places_are_all_reached():
    sample = {"image": np.ones((2, 3, 3), np.uint8), "label": np.zeros((2, 3), np.uint8)}
    rng = np.random.default_rng(0)
    boxes = {tuple(fit(sample, (4, 4), rng)["box"][:2]) for _ in range(200)}
    assert boxes == {(top, left) for top in range(3) for left in range(2)}
