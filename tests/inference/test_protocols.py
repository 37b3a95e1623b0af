"""Testing protocols against the original's tester, and batches of mixed sizes against images alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from openseg_jax import models, sharding
from openseg_jax.config import EvalSettings, SegFixSettings
from openseg_jax.data.maps import depth_of
from openseg_jax.data.normalize import Normalization
from openseg_jax.data.sources import ArraySource
from openseg_jax.errors import InputError
from openseg_jax.inference import ArgMax, ConfusionCounts, Probabilities, Runner
from openseg_jax.inference.protocols import Protocol, make_protocol
from openseg_jax.inference.tasks import task_of
from openseg_jax.labels.classes import ClassTable
from openseg_jax.models.layers import Conv, FeatureMap, relu
from openseg_jax.models.segmentor import Head, ModelSpec, Segmentor, Tap, Taps, TapSpec
from openseg_jax.recipes.common import base
from tests import tiny
from tests.conftest import golden
from tests.inference import every_head
from tests.inference.every_head import SIZES

Z = golden("tester.npz")


class Backbone(nnx.Module):
    def __init__(self):
        self.conv, self.taps = Conv(3, 8, 3, stride=2), TapSpec((Tap(8, 2),), Tap(8, 2), Tap(8, 2))

    def __call__(self, images, *, train):
        x = relu(self.conv(images))
        return Taps((x,), x, x)


class Classifier(Head):
    def __init__(self, num_classes):
        self.out = Conv(8, num_classes, 1)

    def __call__(self, taps, *, train, rngs=None):
        return {"out": self.out(taps.high)}


def stand_in(num_classes=5):
    """The net that the original was tested with: a strided convolution, a classifier, and their recorded weights."""
    spec = ModelSpec("stand-in", num_classes, "stand-in", ("batch_norm",) * 2, "float32", ())
    kernel = lambda name: Z[f"weight_{name}"].transpose(2, 3, 1, 0)  # noqa: E731
    params = {
        "backbone": {"conv": {"kernel": kernel("w1"), "bias": Z["weight_b1"]}},
        "head": {"out": {"kernel": kernel(f"w2_{num_classes}"), "bias": Z[f"weight_b2_{num_classes}"]}},
    }
    return Segmentor(spec, Backbone(), Classifier(num_classes)), {"params": params, "batch_stats": {}}


def config(**changes):
    return EvalSettings(**{"batch_size": 2} | changes)


def run(model, variables, settings, source, normalization=Normalization(), **readers):  # noqa: B008
    """A runner with these readers on one device, and the items of a run by index."""
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    runner = Runner(model, source, settings, readers, normalization, mesh)
    return runner, {item.index: item for item in runner.run(variables)}


PAD = {"pad_size": (96, 160)}
SCALES = {"scales": (0.75, 1.0, 1.25)}
CASES = {
    "ss_fix": PAD,
    "ms_fix": PAD | SCALES | {"protocol": "ms_flip"},
    "ms_fix_weights": PAD | SCALES | {"protocol": "ms_flip", "scale_weights": (0.2, 0.5, 0.3)},
    "ms_depth": PAD | SCALES | {"protocol": "ms_depth"},
    "sscrop": PAD | {"protocol": "crops", "crop": (64, 72)},
    "mscrop": PAD | {"protocol": "ms_crops", "crop": (64, 72), "scales": (0.75, 1.0, 1.5)},
    "ss_diverse_ade": {"min_side": 70, "pad_stride": 8},
    "ss_coco_style": PAD,
    "ss_lip_style_rgb": PAD,
    "ms_diverse_ade": {"min_side": 70, "pad_stride": 8, "protocol": "ms_flip", "scales": (0.5, 1.0, 1.5)},
}


RAW = {
    "ade": (1, 2, 3, 4, 5),
    "lip": (0, 1, 2, 3, 4),
    "coco": (3, 5, 7, 9, 0),  # the original writes 0 in place of the last id, 11
}


class WithDepth(ArraySource):
    def __getitem__(self, index):
        return super().__getitem__(index) | {"depth": depth_of(Z[f"in_stereo_{'ab'[index]}"])}


@pytest.mark.parametrize("case", CASES)
def test_label_maps_equal_the_originals(case):
    """Both images in one batch, of one canvas, through one program: every pixel, ties of the logits aside."""
    model, variables = stand_in()
    images = [Z[f"in_bgr_{name}"][..., ::-1] for name in "ab"]
    source = WithDepth(images) if case == "ms_depth" else ArraySource(images)
    normalization = Normalization(channels="rgb") if "rgb" in case else Normalization()
    _, found = run(model, variables, config(max_buckets=1, **CASES[case]), source, normalization, labels=ArgMax())
    raw = np.array(next((ids for name, ids in RAW.items() if name in case), (7, 8, 11, 12, 13)))
    for index, name in enumerate("ab"):
        np.testing.assert_array_equal(raw[found[index]["labels"]], Z[f"{case}__{name}__label_png"])


def test_probabilities_equal_the_originals():
    model, variables = stand_in()
    source = ArraySource([Z["in_bgr_a"][..., ::-1]])
    _, found = run(model, variables, config(**PAD), source, probabilities=Probabilities())
    np.testing.assert_allclose(
        found[0]["probabilities"][::3, ::3], Z["ss_fix_saveprob__a__prob"], atol=5e-4
    )  # they are float16


@pytest.mark.parametrize("case", [case for case in CASES if f"{case}__a__logits_padded" in Z])
def test_logits_equal_the_originals(case):
    model, variables = stand_in()
    protocol = make_protocol(config(**{k: v for k, v in CASES[case].items() if "pad" not in k and "min" not in k}))
    padded = Z["ss_diverse_ade__a__net_input" if "ade" in case else "ss_fix__a__net_input"].transpose(1, 2, 0)[None]

    def net(x):
        return x.replace(models.apply(model, variables, x.values, sizes=x.extent)["out"])

    depth = None
    if case == "ms_depth":
        values = jnp.asarray(depth_of(Z["in_stereo_a"])[None, ..., None], jnp.float32)
        depth = FeatureMap(values, jnp.array([values.shape[1:3]]))
    for extent in (None, jnp.array([padded.shape[1:3]])):
        ours = protocol.logits(net, FeatureMap(jnp.asarray(padded), extent), depth).values[0].transpose(2, 0, 1)
        np.testing.assert_allclose(ours[:, ::3, ::3], Z[f"{case}__a__logits_padded"], atol=1e-4)


@pytest.mark.parametrize("protocol", ["single", "flip"])
def test_mixed_sizes_in_few_programs_are_as_alone(protocol):
    """Twelve sizes in four buckets equal one program per size, in batches and one by one."""
    model = tiny.create("fcnet", 5)
    variables = tiny.random_variables(model)
    source = every_head.Scenes(every_head.images(SIZES))
    found = {}
    for name, changes in {
        "buckets": {"batch_size": 3},
        "exact": {"exact_shapes": True, "batch_size": 1},
    }.items():
        options = every_head.options_of(protocol) | changes
        runner, found[name] = run(model, variables, config(protocol=protocol, **options), source, labels=ArgMax())
        if name == "buckets":
            assert len(runner.buckets) <= 4
            assert runner._step._cache_size() <= 4
            pixels = sum(h * w for h, w in SIZES)
            wasted = sum(b.canvas[0] * b.canvas[1] * len(b.indices) for b in runner.buckets) - pixels
            assert wasted < 0.5 * pixels  # of sizes drawn to be as different as these
    different = sum(
        int((found["buckets"][i]["labels"] != found["exact"][i]["labels"]).sum()) for i in range(len(SIZES))
    )
    assert different <= 3, "more than ties"


def test_every_head_in_one_program_is_as_alone():
    """Under the protocol of all steps; `python -m tests.inference.every_head` runs all protocols and sizes."""
    found = every_head.compare("ms_crops", every_head.SIZES[3:6], max_buckets=1, batch_sizes=(3,))
    assert found["programs"] == 1
    assert found["error"] <= 1e-4
    assert found["different"] == 0
    assert found["ties"] <= 3


def test_flipping_exchanges_left_and_right():
    """With the pairs of the class table; without, mirrored logits keep the names of the other side."""
    classes = ClassTable.from_dict({"classes": list("abc"), "flip_pairs": [["b", "c"]]}, "test")
    logits = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 6, 3)), jnp.float32)
    net = lambda x: FeatureMap(jnp.concatenate([logits, logits]), x.extent)  # noqa: E731
    images = FeatureMap(jnp.zeros((2, 4, 6, 3)))
    swapped = Protocol(flip=True, mean=True, swap=classes.flip_pairs).logits(net, images).values
    np.testing.assert_allclose(swapped, (logits + logits[:, :, ::-1][..., [0, 2, 1]]) / 2, rtol=1e-6)


def test_protocols_that_cannot_be():
    for changes, message in {
        ("protocol", "mss"): "unknown eval.protocol 'mss'; there are single",
        ("scale_weights", (1.0, 2.0)): "1 eval.scales have 2 eval.scale_weights",
        ("crop", (64, 64)): 'eval.crop is for the protocols "crops" and "ms_crops"',
    }.items():
        with pytest.raises(InputError, match=message):
            make_protocol(config(**dict([changes])))
    with pytest.raises(InputError, match="leaves gaps between windows"):
        make_protocol(config(protocol="crops", crop=(64, 64), crop_stride=(64, 65)))


def test_the_fields_of_configs_are_those_of_the_package():
    assert EvalSettings(**base("hrnet_w18_ocr").eval) == EvalSettings()


V = golden("validation.npz")


class Classes:
    """The swap pairs of LIP."""

    flip_pairs = ((14, 15), (16, 17), (18, 19))


class Samples(ArraySource):
    def __init__(self, case, classes=None):
        super().__init__([V[f"{case}__in_bgr_{i}"][..., ::-1] for i in range(2)], classes)
        self.case = case

    def __getitem__(self, index):
        label = V[f"{self.case}__in_label_{index}"]
        sample = super().__getitem__(index) | {"label": self.encoded(label)}
        if self.case == "segfix":
            angle = 2.0 * V[f"segfix__in_dir_deg_{index}"] - 180
            sample |= {"distance": V[f"segfix__in_depth_{index}"].astype(np.int32), "angle": angle}
        return sample

    def encoded(self, label):
        if self.case == "lip":
            return label
        if self.case == "ade":
            return np.where(label == 0, 255, label - 1).astype(np.uint8)
        ids = np.full(256, 255, np.uint8)
        ids[[7, 8, 11, 12, 13]] = range(5)
        return ids[label]


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("city", {}),
        ("ade", {"min_side": 30, "pad_stride": 8}),
        ("lip", {"size": (33, 33), "protocol": "flip_mean"}),
    ],
)
def test_validation_equals_the_originals(case, changes):
    model, variables = stand_in(20 if case == "lip" else 5)
    source = Samples(case, Classes if case == "lip" else None)
    _, found = run(
        model, variables, config(**changes), source, labels=ArgMax(), counts=ConfusionCounts(20 if case == "lip" else 5)
    )
    np.testing.assert_array_equal(sum(item["counts"] for item in found.values()), V[f"{case}__confusion__seg"])


class SegFixClassifier(Head):
    full_size = False
    main_output = "mask"
    needs_classes = False

    def __init__(self):
        self.mask, self.direction = Conv(8, 2, 1), Conv(8, 8, 1)

    def __call__(self, taps, *, train, rngs=None):
        return {"mask": self.mask(taps.high), "direction": self.direction(taps.high)}


def segfix_stand_in():
    """The same backbone, under classifiers of boundaries and directions."""
    spec = ModelSpec("stand-in", None, "stand-in", ("batch_norm",) * 2, "float32", ())
    parts = {"mask": "m", "direction": "d"}
    head = {k: {"kernel": Z[f"weight_w{x}"].transpose(2, 3, 1, 0), "bias": Z[f"weight_b{x}"]} for k, x in parts.items()}
    params = {"backbone": stand_in()[1]["params"]["backbone"], "head": head}
    return Segmentor(spec, Backbone(), SegFixClassifier()), {"params": params, "batch_stats": {}}


def test_boundaries_are_counted_as_in_the_original():
    model, variables = segfix_stand_in()
    task = task_of(model, None, SegFixSettings())
    _, found = run(model, variables, config(), Samples("segfix"), **task.readers)
    counts = sum(item["counts"] for item in found.values())
    expected = [V[f"segfix__confusion__{name}"] for name in ("mask", "dir_(GT)", "dir_(mask)")]
    np.testing.assert_array_equal(counts[:3], [(np.trace(x), x.sum()) for x in expected])
    mask = expected[0]
    np.testing.assert_array_equal(counts[3:], [(mask[1, 1], mask[:, 1].sum()), (mask[1, 1], mask[1].sum())])
