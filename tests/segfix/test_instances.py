"""Refinement of instance predictions in the files of Cityscapes and of COCO."""

import json
import sys
from types import SimpleNamespace

import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as benchmark  # noqa: N813
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coder

from openseg_jax.data.offset_files import write_offsets
from openseg_jax.errors import InputError
from openseg_jax.labels.refinement import refine
from openseg_jax.segfix import instances
from openseg_jax.segfix.instances import CityscapesInstances, CocoInstances, Instance
from openseg_jax.segfix.offsets import stored_offsets
from openseg_jax.segfix.refinement import Tally, refine_instances
from tests.conftest import golden
from tests.segfix.written import write_cityscapes, write_coco

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
CAR, PERSON = 26, 24
NAMES = ("frankfurt_000000_000294", "frankfurt_000000_000576")


def refined(given, offsets, out, **options):
    """Refines instances by files of offsets."""
    tally = Tally()
    for change in refine_instances(given, stored_offsets(offsets, list(given.images)), out, **options):
        tally.update(change)
    return tally


def refine_cityscapes(folder, offsets, out, **options):
    return refined(CityscapesInstances(folder), offsets, out, **options)


def refine_coco(path, offsets, out, annotations=None, **options):
    return refined(CocoInstances(path, annotations), offsets, out, **options)


def boxes(*corners, size=(60, 80)):
    masks = np.zeros((len(corners), *size), np.uint8)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = 1
    return masks


def write_set(folder, name, masks, labels=None):
    found = [Instance(f"{name}_{i}.png", label, 0.9 - i / 10) for i, label in enumerate(labels or [CAR] * len(masks))]
    write_cityscapes(folder, name, found, masks)
    return found


def read_png(path):
    with Image.open(path) as picture:
        assert picture.mode == "L"
        return np.asarray(picture)


# ---------------------------------------------------------------------------------------------------------------------
# Cityscapes


@pytest.mark.parametrize(("scale", "suffix"), [(1, ".mat"), (2, ".npz")])
def test_as_the_original(tmp_path, scale, suffix):
    content = golden("segfix_refined.npz")
    for i, mask in enumerate(content["inst_ref_in"]):
        Image.fromarray(mask).save(tmp_path / f"mask{i}.png")
    text = "mask0.png 26 0.75\n\nmask1.png 24 5e-1"
    (tmp_path / "a_pred.txt").write_text(text)
    (tmp_path / "nothing_pred.txt").write_text("")
    write_offsets(tmp_path / f"a{suffix}", content["ref_in_offset"])
    out = tmp_path / "out"
    assert refine_cityscapes(tmp_path, tmp_path, out, scale=scale).maps == 2
    for i, expected in enumerate(content[f"refine_inst_scale{scale}"]):
        np.testing.assert_array_equal(read_png(out / f"mask{i}.png"), expected)
    assert (out / "a_pred.txt").read_text() == text
    assert (out / "nothing_pred.txt").read_text() == ""
    assert sorted(path.name for path in out.iterdir()) == ["a_pred.txt", "mask0.png", "mask1.png", "nothing_pred.txt"]


def test_sets_of_cityscapes_as_written(tmp_path):
    masks = boxes((10, 10, 20, 30), (0, 0, 5, 5))
    found = [Instance("pred_mask/a_0.png", CAR, 0.1 + 0.2), Instance("pred_mask/a_1.png", PERSON, 1.0)]
    write_cityscapes(tmp_path, "a", found, masks)
    write_cityscapes(tmp_path, "b", [], [])
    assert instances.read_cityscapes(tmp_path) == {"a": found, "b": []}
    np.testing.assert_array_equal(read_png(tmp_path / "pred_mask" / "a_1.png"), masks[1] * 255)


def test_images_of_many_sizes(tmp_path):
    rng, expected = np.random.default_rng(0), {}
    for i, size in enumerate([(40, 50), (30, 60), (40, 50), (9, 9)]):
        masks = rng.integers(0, 2, (3, *size)).astype(np.uint8)
        write_set(tmp_path / "in", f"image{i}", masks)
        offsets = rng.integers(-2, 3, (*size, 2))
        write_offsets(tmp_path / "offsets" / f"image{i}.npz", offsets)
        expected |= {f"image{i}_{j}.png": np.asarray(refine(m, offsets, scale=1)) * 255 for j, m in enumerate(masks)}
    folders = tmp_path / "in", tmp_path / "offsets", tmp_path / "out"
    tally = refine_cityscapes(*folders, max_buckets=2)
    changed = sum((mask != read_png(folders[0] / name)).sum() for name, mask in expected.items())
    pixels = 3 * (40 * 50 + 30 * 60 + 40 * 50 + 9 * 9)
    assert (tally.maps, tally.pixels, tally.changed) == (12, pixels, changed)
    for name, mask in expected.items():
        np.testing.assert_array_equal(read_png(tmp_path / "out" / name), mask)


def average_precision(folder, truth):
    """As the benchmark's own script computes it."""
    predictions = [str(folder / f"{name}_pred.txt") for name in NAMES]
    truths = [str(truth / f"{name}_gtFine_instanceIds.png") for name in NAMES]
    changed = {
        "predictionPath": str(folder),
        "gtInstancesFile": str(folder / "none"),
        "quiet": True,
        "JSONOutput": False,
    }
    arguments = SimpleNamespace(**vars(benchmark.args) | changed)
    benchmark.setInstanceLabels(arguments)
    return benchmark.evaluateImgLists(predictions, truths, arguments)["averages"]


def test_average_precision_rises(tmp_path, monkeypatch):
    """Masks that lie some pixels too far to the right are brought back by offsets that point there."""
    # The script uses what numpy 2.4 has no more, and leaves files behind that it cannot write with numpy's numbers.
    monkeypatch.setattr(np, "in1d", lambda x, ids: np.isin(x, ids).ravel(), raising=False)
    monkeypatch.setattr(benchmark, "writeDict2JSON", lambda content, path: None)
    shift, truth = 3, boxes((5, 5, 30, 30), (32, 40, 55, 66))
    for name in NAMES:
        ids = (truth * np.array([26000, 26001]).reshape(2, 1, 1)).sum(0).astype(np.uint16)
        Image.fromarray(ids).save(tmp_path / f"{name}_gtFine_instanceIds.png")
        write_set(tmp_path / "before", name, np.roll(truth, shift, axis=2))
        write_offsets(tmp_path / "offsets" / f"{name}.npz", np.broadcast_to([0, 1], (60, 80, 2)))
    refine_cityscapes(tmp_path / "before", tmp_path / "offsets", tmp_path / "after", scale=shift)
    before, after = (average_precision(tmp_path / folder, tmp_path) for folder in ("before", "after"))
    car = before["classes"]["car"]
    assert 0.4 < car["ap"] < 0.8
    assert after["classes"]["car"]["ap"] == pytest.approx(1)
    assert after["allAp"] > before["allAp"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a_0.png 26", r'line 1 of .*a_pred.txt should be "mask.png label score", found \'a_0.png 26\''),
        ("\na_0.png car 0.5", "line 2 of"),
        ("a_0.png 26.5 0.5", "line 1 of"),
        ("a_0.png 26 nan", "line 1 of"),
        ("a_0.png 26 0.5 1", "line 1 of"),
        ("a_9.png 26 0.5", "names the mask a_9.png, which is missing"),
        ("../a_0.png 26 0.5", "names the mask ../a_0.png, which is not in"),
        ("/a_0.png 26 0.5", "names the mask /a_0.png, which is not in"),
        ("a_0.png 26 0.5\n./a_0.png 24 0.1", "line 2 of .* names the mask ./a_0.png, as line 1 of .* does"),
    ],
)
def test_wrong_lists(tmp_path, text, message):
    write_set(tmp_path, "a", boxes((0, 0, 5, 5)))
    (tmp_path / "a_pred.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        instances.read_cityscapes(tmp_path)


def test_wrong_masks_and_offsets(tmp_path):
    with pytest.raises(InputError, match=r"has no list of instances \*_pred.txt"):
        instances.read_cityscapes(tmp_path)
    write_set(tmp_path, "a", boxes((0, 0, 5, 5)))
    with pytest.raises(InputError, match="would be overwritten"):
        refine_cityscapes(tmp_path, tmp_path, tmp_path)
    with pytest.raises(InputError, match="has no offsets for a"):
        refine_cityscapes(tmp_path, tmp_path, tmp_path / "out")
    write_offsets(tmp_path / "a.npz", np.zeros((60, 70, 2), np.int8))
    with pytest.raises(InputError, match=r"a_0.png is of size \(60, 80\), its offsets .*a.npz of \(60, 70\)"):
        refine_cityscapes(tmp_path, tmp_path, tmp_path / "out")
    Image.new("RGB", (80, 60)).save(tmp_path / "a_0.png")
    with pytest.raises(InputError, match="a_0.png is an image of mode RGB"):
        refine_cityscapes(tmp_path, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out" / "a_pred.txt").exists(), "the list is written when all is done"


# ---------------------------------------------------------------------------------------------------------------------
# COCO


def uncompressed(mask):
    values = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(values)) + 1
    runs = np.diff([0, *edges, values.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if values[0] else runs}


MASK = boxes((10, 20, 30, 60))[0]


@pytest.mark.parametrize("mask", [MASK, 1 - MASK, 0 * MASK, 0 * MASK + 1, MASK[10:11, 20:21], MASK[:1, :1]])
def test_run_length_codes(mask):
    code = instances.encode(mask)
    assert isinstance(code["counts"], str)
    for each in (json.loads(json.dumps(code)), uncompressed(mask)):
        found = instances.decode(each, "mask")
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, mask)


def predictions(masks, images, **more):
    return [
        {"image_id": image, "category_id": 3, "score": 0.5, "segmentation": instances.encode(mask), **more}
        for image, mask in zip(images, masks, strict=True)
    ]


@pytest.mark.parametrize("scale", [1, 2])
def test_coco_as_the_original_on_masks(tmp_path, scale):
    content = golden("segfix_refined.npz")
    given = predictions(content["inst_ref_in"], (7, 7), bbox=[0, 0, 1, 1], note="kept")
    given[1]["segmentation"] = uncompressed(np.minimum(content["inst_ref_in"][1], 1))
    write_coco(tmp_path / "given.json", given)
    assert instances.read_coco(tmp_path / "given.json") == given
    write_offsets(tmp_path / "7.mat", content["ref_in_offset"])
    out = tmp_path / "out" / "refined.json"
    assert refine_coco(tmp_path / "given.json", tmp_path, out, scale=scale).maps == 2
    for before, after, expected in zip(
        given, instances.read_coco(out), content[f"refine_inst_scale{scale}"], strict=True
    ):
        np.testing.assert_array_equal(instances.decode(after["segmentation"], "mask"), expected > 0)
        assert after["bbox"] == coder.toBbox(instances.encode(expected)).tolist()
        changed = ("segmentation", "bbox")
        assert {k: v for k, v in after.items() if k not in changed} == {
            k: v for k, v in before.items() if k not in changed
        }


def test_coco_images_have_names(tmp_path):
    """Predictions in any order of images, each refined by the offsets of its own."""
    images = [139, 285, 139, 632, 285, 139]
    given = predictions([np.roll(MASK, image % 5, axis=0) for image in images], images)
    write_coco(tmp_path / "given.json", given)
    listed = [{"id": image, "file_name": f"val/{image:012}.jpg"} for image in sorted(set(images))]
    (tmp_path / "images.json").write_text(json.dumps({"images": listed}))
    names = instances.read_image_names(tmp_path / "images.json")
    assert names[139] == "000000000139"
    for image, name in names.items():
        write_offsets(tmp_path / f"{name}.npz", np.broadcast_to([image % 5, 0], (60, 80, 2)))
    refine_coco(tmp_path / "given.json", tmp_path, tmp_path / "out.json", tmp_path / "images.json")
    found = instances.read_coco(tmp_path / "out.json")
    assert [prediction["image_id"] for prediction in found] == images
    for prediction in found:
        np.testing.assert_array_equal(instances.decode(prediction["segmentation"], ""), MASK)
    write_coco(tmp_path / "given.json", predictions([MASK], [1]))
    with pytest.raises(InputError, match="prediction 0 of .*given.json is of the image 1, which the list of images"):
        refine_coco(tmp_path / "given.json", tmp_path, tmp_path / "out.json", tmp_path / "images.json")


GOOD = predictions([MASK], [7])[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "a.json is not valid JSON"),
        ({"annotations": []}, "a.json should hold a list of predictions, found dict"),
        ([GOOD, 3], "prediction 1 of .*a.json has no category_id"),
        ([{"image_id": 7, "category_id": 3, "segmentation": {}}], "prediction 0 of .*a.json has no score"),
        ([GOOD | {"image_id": [7]}], "image_id should be a number or a name"),
        ([GOOD | {"segmentation": [[1, 2, 3, 4, 5, 6]]}], r'wanted {"size": \[height, width\], "counts": ...}, found'),
        ([GOOD | {"segmentation": {"size": [60], "counts": "0"}}], "wanted {"),
    ],
)
def test_wrong_predictions(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=message):
        instances.read_coco(tmp_path / "a.json")


@pytest.mark.parametrize("counts", ["", "5", "é", "!!", "0" * 50, [3], [4800, 1], [-1, 4801], ["a"], [1.5]])
def test_damaged_codes(counts):
    with pytest.raises(InputError, match="prediction 3: its run-length code is not that of 60 x 80 pixels"):
        instances.decode({"size": [60, 80], "counts": counts}, "prediction 3")


def test_codes_of_another_size_and_lists_that_are_none(tmp_path):
    write_coco(tmp_path / "a.json", [GOOD])
    write_offsets(tmp_path / "7.npz", np.zeros((80, 60, 2), np.int8))
    with pytest.raises(InputError, match=r"prediction 0 of .*a.json is of size \(60, 80\), its offsets .*7.npz of"):
        refine_coco(tmp_path / "a.json", tmp_path, tmp_path / "out.json")
    with pytest.raises(InputError, match='should hold a list "images"'):
        instances.read_image_names(tmp_path / "a.json")


def test_without_pycocotools(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(InputError, match="need pycocotools: pip install"):
        instances.encode(MASK)
