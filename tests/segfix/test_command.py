"""openseg segfix: offsets, refinement and truth from file to file."""

import json
import shutil

import numpy as np
import pytest
import scipy.io
from PIL import Image

from openseg_jax import checkpoints
from openseg_jax.data import ClassTable, load_classes
from openseg_jax.data.maps import read_offset
from openseg_jax.data.normalize import Normalization
from openseg_jax.data.offset_files import read_offsets, write_offsets
from openseg_jax.errors import InputError
from openseg_jax.labels.ground_truth import instance_offsets, semantic_offsets
from openseg_jax.labels.refinement import refine
from openseg_jax.segfix import instances
from openseg_jax.segfix.label_files import LabelMap, only_classes, read_labels, write_labels
from openseg_jax.segfix.offsets import predicted_offsets, stored_offsets
from openseg_jax.segfix.refinement import refine_instances
from openseg_jax.segfix.report import changes, direction_field, most_changed_window
from tests import commands, tiny
from tests.conftest import golden
from tests.data import folders
from tests.segfix.written import write_cityscapes, write_coco

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
MODULE = "openseg_jax.segfix"
SIZE = (40, 56)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A folder data set of pictures in two sizes, a SegFix checkpoint, and the offsets that it predicts."""
    root = folders.write(tmp_path_factory.mktemp("data"), counts=(1, 4), sizes=((40, 56), (33, 64)))
    model = tiny.create("segfix_hrnet", backbone="resnet18")
    variables = tiny.random_variables(model)
    saved = checkpoints.Checkpoints(root / "checkpoint")
    saved.save(variables, checkpoints.Metadata(model.spec.to_dict(), Normalization()))
    saved.close()
    assert commands.call(MODULE, "predict", *net(root), "--out", root / "offsets") == 0
    return root


def net(root):
    return "--checkpoint", root / "checkpoint", "--images", root / "val" / "image"


@pytest.fixture
def fails(capsys):
    return lambda *arguments: commands.fails_here(capsys, MODULE, *arguments)


def drawn(size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(-2, 3, (*size, 2)).astype(np.int8)


# ---------------------------------------------------------------------------------------------------------------------
# predict


def test_predict(setting, tmp_path, capsys):
    root = setting
    pictures = sorted((root / "val" / "image").iterdir())
    arguments = "predict", "--checkpoint", root / "checkpoint", "--out", tmp_path, "--format", "mat"
    windows = "--window", "32x32", "--batch-size", 8
    assert commands.call(MODULE, *arguments, *windows, "--images", pictures[0]) == 0
    assert commands.call(MODULE, *arguments, *windows, "--images", pictures[0], pictures[2]) == 0
    assert "offsets of 1 images were written" in (told := capsys.readouterr().out)
    assert "1 were there already" in told
    window = {"window": (32, 32), "stride": (10, 10)}
    for options, folder, suffix in (({}, root / "offsets", ".npz"), (window, tmp_path, ".mat")):
        pictures = pictures[::2] if options else pictures
        found = {each.name: each for each in predicted_offsets(root / "checkpoint", pictures, batch_size=8, **options)}
        assert {path.name for path in folder.iterdir()} - {".openseg"} == {f"{path.stem}{suffix}" for path in pictures}
        for path in pictures:
            assert found[path.stem].file == path
            np.testing.assert_array_equal(read_offsets(folder / f"{path.stem}{suffix}"), found[path.stem].offsets)
            assert found[path.stem].offsets.any()


def test_predict_again_in_another_format(setting, tmp_path):
    root = setting
    image = root / "val" / "image" / "scene0.png"
    arguments = "predict", "--checkpoint", root / "checkpoint", "--out", tmp_path, "--images", image
    assert commands.call(MODULE, *arguments, "--format", "mat") == 0
    write_offsets(tmp_path / "scene0.mat", drawn())
    assert commands.call(MODULE, *arguments, "--overwrite") == 0
    assert {path.name for path in tmp_path.iterdir()} == {".openseg", "scene0.npz"}
    assert (tmp_path / "scene0.npz").read_bytes() == (root / "offsets" / "scene0.npz").read_bytes()


# ---------------------------------------------------------------------------------------------------------------------
# refine


@pytest.fixture(scope="module")
def refined(setting, tmp_path_factory):
    """The labels of the data set by the offsets of the checkpoint, with a report."""
    root, out = setting, tmp_path_factory.mktemp("refined")
    arguments = "--labels", root / "val" / "label", "--offsets", root / "offsets", "--images", root / "val" / "image"
    assert commands.call(MODULE, "refine", *arguments, "--out", out) == 0
    return out


def test_refine_as_the_function(setting, refined):
    root = setting
    for file in (root / "val" / "label").iterdir():
        before = np.asarray(Image.open(file))
        expected = refine(before, read_offsets(root / "offsets" / f"{file.stem}.npz"), void=255)
        np.testing.assert_array_equal(np.asarray(Image.open(refined / file.name)), expected)
        assert (before != expected).any()


def test_refine_in_one_pass_as_by_files(setting, refined, tmp_path, capsys):
    root = setting
    assert commands.call(MODULE, "refine", "--labels", root / "val" / "label", *net(root), "--out", tmp_path) == 0
    told = capsys.readouterr().out
    assert "4 maps in" in told
    assert "maps per minute" in told
    for file in refined.glob("*.png"):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_report(setting, refined):
    page = (refined / "report.html").read_text()
    labels = setting / "val" / "label"
    pairs = [np.stack([Image.open(file), Image.open(refined / file.name)]) for file in labels.iterdir()]
    changed = sum((before != after).sum() for before, after in pairs)
    assert f'<td>changed pixels</td><td class="number">{changed}</td>' in page
    assert '<td>maps</td><td class="number">4</td>' in page
    assert '<td>scale</td><td class="number">2</td>' in page
    assert page.count("data:image/jpeg") == 2 * 4
    assert len(page) < 1e6


def test_as_the_original_with_classes(tmp_path):
    """Ids of no class become 255, which moves like any other."""
    content = golden("segfix_refined.npz")
    folders.save(tmp_path / "labels" / "a.png", content["ref_in_label"])
    write_offsets(tmp_path / "a.mat", content["ref_in_offset"])
    arguments = "--labels", tmp_path / "labels", "--offsets", tmp_path, "--classes", "cityscapes"
    for scale in (1, 2):
        out = tmp_path / f"out{scale}"
        assert commands.call(MODULE, "refine", *arguments, "--void", "moves", "--scale", scale, "--out", out) == 0
        np.testing.assert_array_equal(np.asarray(Image.open(out / "a.png")), content[f"refine_city_scale{scale}"])
    assert commands.call(MODULE, "refine", *arguments, "--out", tmp_path / "held") == 0
    void = ~np.isin(content["ref_in_label"], load_classes("cityscapes").ids)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "held" / "a.png")) == 255, void)


def palette_picture(values, colors=256):
    picture = Image.fromarray(values.astype(np.uint8))
    picture.putpalette(np.random.default_rng(1).integers(0, 256, 3 * colors).astype(np.uint8).tobytes())
    return picture


VALUES = np.random.default_rng(2).integers(0, 4, SIZE)
RGB = Image.fromarray(np.random.default_rng(3).integers(0, 256, (4, 3)).astype(np.uint8)[VALUES])
ENCODINGS = {
    "grey.png": Image.fromarray((VALUES * 85).astype(np.uint8)),
    "palette.png": palette_picture(VALUES * 85),
    "few_colors.png": palette_picture(VALUES, 5),
    "beyond_its_palette.png": palette_picture(VALUES * 85, 5),
    "palette.bmp": palette_picture(VALUES * 85),
    "16bit.png": Image.fromarray((VALUES * 21_000).astype(np.uint16)),
    "16bit.tif": Image.fromarray((VALUES * 21_000).astype(np.uint16)),
    "32bit.tif": Image.fromarray((VALUES * 700_000_000 - 1_000_000_000).astype(np.int32)),
    "1bit.png": Image.fromarray(VALUES > 1),
    "colors.png": RGB,
    "uncompressed_colors.tiff": RGB,
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_is_kept(tmp_path, name):
    """As each colour, or each value, moves on its own, the refined picture is the picture at the refined places."""
    (tmp_path / "labels").mkdir()
    options = {"compression": "tiff_lzw"} if name.endswith(".tif") else {}
    ENCODINGS[name].save(tmp_path / "labels" / name, **options)
    write_offsets((tmp_path / name).with_suffix(".npz"), drawn())
    folders.save((tmp_path / "images" / name).with_suffix(".png"), np.zeros((*SIZE, 3), np.uint8))
    arguments = "--labels", tmp_path / "labels", "--offsets", tmp_path, "--void", "moves", "--iterations", 2
    arguments += "--images", tmp_path / "images"
    assert commands.call(MODULE, "refine", *arguments, "--out", tmp_path / "out") == 0
    with Image.open(tmp_path / "labels" / name) as before, Image.open(tmp_path / "out" / name) as after:
        assert (after.mode, after.format) == (before.mode, before.format)
        assert after.info.get("compression") == before.info.get("compression")
        places = np.asarray(refine(np.arange(VALUES.size, dtype=np.int32).reshape(SIZE), drawn(), iterations=2))
        pixels = np.asarray(before).reshape(VALUES.size, *np.asarray(before).shape[2:])
        np.testing.assert_array_equal(np.asarray(after), pixels[places])
        if before.mode == "P":
            count = len(before.getpalette())
            assert after.getpalette()[:count] == before.getpalette()
    assert (tmp_path / "out" / "report.html").read_text().count("data:image/jpeg") == 2


@pytest.mark.parametrize(
    ("name", "given", "void"),
    [("grey.png", (), 255), ("palette.png", (), 255), ("16bit.png", (), None), ("1bit.png", (), None),
     ("16bit.png", ("--void", 42_000), 42_000), ("grey.png", ("--void", "moves"), None),
     ("colors.png", ("--void", "#{:02x}{:02x}{:02x}".format(*RGB.getpixel((0, 0)))), RGB.getpixel((0, 0)))],
)  # fmt: skip
def test_void(tmp_path, name, given, void):
    (tmp_path / "labels").mkdir()
    ENCODINGS[name].save(tmp_path / "labels" / name)
    write_offsets((tmp_path / name).with_suffix(".npz"), drawn())
    arguments = "--labels", tmp_path / "labels", "--offsets", tmp_path, *given
    assert commands.call(MODULE, "refine", *arguments, "--out", tmp_path / "out") == 0
    before, after = (read_labels(tmp_path / folder / name).ids for folder in ("labels", "out"))
    if isinstance(void, tuple):
        void = int(np.array(void) @ [65536, 256, 1])
    np.testing.assert_array_equal(after, refine(before, drawn(), void=void))
    if void is not None:
        np.testing.assert_array_equal(after == void, before == void)
        assert (before == void).any()


def test_maps_without_offsets(setting, tmp_path, fails, capsys):
    root = setting
    labels, offsets = root / "val" / "label", shutil.copytree(root / "offsets", tmp_path / "offsets")
    for index in (1, 2):
        (offsets / f"scene{index}.npz").unlink()
    arguments = "refine", "--labels", labels, "--offsets", offsets, "--out", tmp_path / "out"
    assert "2 of 4 label maps have no offsets in" in (said := fails(*arguments))
    assert said.endswith("scene1, scene2; --missing=copy leaves them as they are")
    assert not (tmp_path / "out").exists()
    assert commands.call(MODULE, *arguments, "--missing", "copy") == 0
    assert "2 maps have no offsets and were copied" in capsys.readouterr().out
    for index, is_same in enumerate((False, True, True, False)):
        pair = [np.asarray(Image.open(folder / f"scene{index}.png")) for folder in (labels, tmp_path / "out")]
        assert np.array_equal(*pair) == is_same
    (images := tmp_path / "images").mkdir()
    shutil.copy(root / "val" / "image" / "scene3.png", images)
    arguments = "--labels", labels, "--checkpoint", root / "checkpoint", "--images", images, "--out", tmp_path / "one"
    assert "3 of 4 label maps have no image in" in fails("refine", *arguments)
    assert commands.call(MODULE, "refine", *arguments, "--missing", "copy") == 0
    assert (tmp_path / "one" / "scene3.png").read_bytes() == (tmp_path / "out" / "scene3.png").read_bytes()


def test_pictures_that_cannot_be_read_end_it(setting, tmp_path, fails):
    """Though others wait for their offsets, and the net for someone to take them."""
    root = shutil.copytree(setting, tmp_path / "data")
    for index in range(4, 40):
        for folder in ("image", "label"):
            shutil.copy(root / "val" / folder / "scene0.png", root / "val" / folder / f"scene{index}.png")
    arguments = "refine", "--labels", root / "val" / "label", *net(root), "--batch-size", 8
    (root / "val" / "label" / "scene9.png").write_bytes((root / "val" / "label" / "scene0.png").read_bytes()[:80])
    assert "scene9.png is damaged" in fails(*arguments, "--out", tmp_path / "out")
    image = root / "val" / "image" / "scene20.png"
    image.write_bytes(image.read_bytes()[:200])
    shutil.copy(root / "val" / "label" / "scene0.png", root / "val" / "label" / "scene9.png")
    assert "scene20.png is not a readable image" in fails(*arguments, "--out", tmp_path / "out")


# ---------------------------------------------------------------------------------------------------------------------
# Instances


def test_instances(setting, tmp_path, capsys):
    """Of Cityscapes and of COCO, by files and by the net, as the functions behind the command."""
    root = setting
    given, images = tmp_path / "given", [{"id": 7, "file_name": "scene0.jpg"}, {"id": 8, "file_name": "scene3.jpg"}]
    predictions = []
    for image in images:
        name = image["file_name"].removesuffix(".jpg")
        label = np.asarray(Image.open(root / "val" / "label" / f"{name}.png"))
        found = [instances.Instance(f"{name}_{i}.png", 26, 0.5) for i in (7, 9)]
        masks = [label == 7, label == 9]
        write_cityscapes(given, name, found, masks)
        segmentations = [{"segmentation": instances.encode(mask)} for mask in masks]
        predictions += [{"image_id": image["id"], "category_id": 3, "score": 0.5} | code for code in segmentations]
    write_cityscapes(given, "nothing", [], [])
    write_coco(tmp_path / "coco.json", predictions)
    (tmp_path / "images.json").write_text(json.dumps({"images": images}))
    coco = instances.CocoInstances(tmp_path / "coco.json", tmp_path / "images.json")
    for found, out in ((instances.CityscapesInstances(given), "expected"), (coco, "expected.json")):
        offsets = stored_offsets(root / "offsets", list(found.images))
        assert len(list(refine_instances(found, offsets, tmp_path / out))) == 4
    coco = "--coco", tmp_path / "coco.json", "--annotations", tmp_path / "images.json"
    for number, source in enumerate((("--offsets", root / "offsets"), net(root))):
        out = tmp_path / f"out{number}"
        assert commands.call(MODULE, "refine", "--instances", given, *source, "--out", out) == 0
        assert "4 masks in" in capsys.readouterr().out
        for file in (tmp_path / "expected").iterdir():
            assert (out / file.name).read_bytes() == file.read_bytes()
        assert commands.call(MODULE, "refine", *coco, *source, "--out", out) == 0
        assert (out / "coco.json").read_bytes() == (tmp_path / "expected.json").read_bytes()
    twice = tmp_path / "twice"
    arguments = "--instances", given, "--offsets", root / "offsets", "--scale", 2, "--out", twice
    assert commands.call(MODULE, "refine", *arguments) == 0
    assert any((twice / f.name).read_bytes() != f.read_bytes() for f in (tmp_path / "expected").iterdir())


# ---------------------------------------------------------------------------------------------------------------------
# truth


def test_truth(tmp_path, capsys):
    root = folders.write(tmp_path, counts=(3, 1))
    arguments = "truth", "--root", root, "--split", "train", "--classes", root / "classes.json"
    assert commands.call(MODULE, *arguments, "--workers", 2) == 0
    ids = np.full(SIZE, 3, np.uint16)
    ids[5:20, 5:30], ids[20:30, 5:30] = 7001, 7002
    for index in range(3):
        size = np.asarray(Image.open(root / "train" / "label" / f"scene{index}.png")).shape
        folders.save(root / "train" / "instance" / f"scene{index}.png", np.resize(ids, size))
    assert commands.call(MODULE, *arguments, "--instances") == 0
    classes, folder = load_classes(str(root / "classes.json")), root / "train" / "offset_gt"
    for index in range(3):
        label = classes.encode(np.asarray(Image.open(root / "train" / "label" / f"scene{index}.png")), "")
        expected = semantic_offsets(label)
        found = read_offset(folder / "dt_offset" / f"scene{index}.mat", label.shape)
        whole = instance_offsets(np.resize(ids, label.shape), classes.ids)
        also = read_offset(folder / "dt_offset_inst_w_stuff" / f"scene{index}.mat", label.shape)
        for name in ("distance", "angle"):
            np.testing.assert_array_equal(found[name], expected[name])
            np.testing.assert_array_equal(also[name], whole[name])
    content = scipy.io.loadmat(folder / "dt_offset" / "scene0.mat")
    assert {content[name].dtype for name in ("depth", "dir_deg")} == {np.dtype(np.uint8)}
    capsys.readouterr()
    assert commands.call(MODULE, *arguments) == 0
    assert "3 were there already" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def test_pictures_of_directions_and_changes():
    image = np.full((30, 40, 3), 100, np.uint8)
    offsets = np.zeros((30, 40, 2), np.int8)
    offsets[:, 18:24, 1] = 1
    field = direction_field(image, offsets, enlarge=8)
    assert field.shape == (240, 320, 3)
    assert (field[:, :144] == 100).all()
    assert (field[:, 192:] == 100).mean() > 0.9, "arrows reach a little out of the boundary"
    arrows = np.argwhere((field == 255).all(-1))
    assert arrows[:, 1].min() >= 8 * 21, "which point to the right, from every sixth column"
    before, after = np.zeros((2, 30, 40), int)
    after[10:15, 20:26] = 1
    colors = np.array([[0, 0, 0], [0, 255, 0]], np.uint8)
    row = changes(image, before, after, colors, enlarge=1)
    assert row.shape == (30, 3 * 40 + 2 * 6, 3)
    assert (row[12, 46 + 22] == (40, 193, 40)).all(), "0.4 of the picture and 0.6 of the colour"
    assert (row[12, 22] == 40).all()
    assert ((row[:, 92:] == (255, 0, 200)).all(-1) == (after == 1)).all()


@pytest.mark.parametrize("size", [(64, 96), (30, 96), (9, 9), (300, 80)])
def test_the_window_of_most_changes(size):
    changed = np.random.default_rng(0).random((70, 100)) < 0.01
    changed[41:50, 61:70] = True
    rows, columns = most_changed_window(changed, size)
    height, width = min(size[0], 70), min(size[1], 100)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (height, width)
    every = np.lib.stride_tricks.sliding_window_view(changed, (height, width)).sum((2, 3))
    assert changed[rows, columns].sum() == every.max()


# ---------------------------------------------------------------------------------------------------------------------
# Wrong input


@pytest.mark.parametrize(
    ("mode", "suffix", "says"),
    [("RGBA", "png", "a.png is an image of mode RGBA: label maps are PNG, BMP or TIFF with one channel"),
     ("L", "jpg", "a.jpg is a JPEG, whose compression invents ids"), ("LA", "png", "is an image of mode LA"),
     ("F", "tif", "is an image of mode F")],
)  # fmt: skip
def test_pictures_that_hold_no_ids(tmp_path, fails, mode, suffix, says):
    Image.new(mode, (8, 8)).save(tmp_path / f"a.{suffix}")
    write_offsets(tmp_path / "a.npz", drawn((8, 8)))
    assert says in fails("refine", "--labels", tmp_path, "--offsets", tmp_path, "--out", tmp_path / "out")


def test_wrong_labels(tmp_path, fails):
    labels, colors = tmp_path / "labels", tmp_path / "colors.json"
    folders.save(labels / "a.png", np.zeros((8, 9), np.uint8))
    write_offsets(tmp_path / "a.npz", drawn((8, 8)))
    arguments = "refine", "--labels", labels, "--offsets", tmp_path, "--out", tmp_path / "out"
    assert "a.png is of size (8, 9), its offsets" in fails(*arguments)
    write_offsets(tmp_path / "a.npz", drawn((8, 9)))
    assert "scale is 1.5, wanted a whole number" in fails(*arguments, "--scale", 1.5)
    assert "scale is 0.0, wanted a whole number" in fails(*arguments, "--scale", 0)
    assert "did not write it" in fails(*arguments[:-1], labels)
    assert "a.png is an image of mode L, with ids from 0 to 255" in fails(*arguments, "--void", 256)
    assert '--void is an id, a colour such as "#000000", or moves, found' in fails(*arguments, "--void", "none")
    colors.write_text(json.dumps({"masks": "colors", "void_colors": [[0, 0, 0]], "classes": ["a"]}))
    assert "a.png is an image of mode L, but masks of" in fails(*arguments, "--classes", colors)
    folders.save(labels / "b.png", np.zeros((8, 9), np.uint16))
    write_offsets(tmp_path / "b.npz", drawn((8, 9)))
    assert "255 is void in maps of 8 bits only" in (said := fails(*arguments))
    assert "a.png (L)" in said
    assert "b.png (I;16)" in said
    folders.save(labels / "a.tif", np.zeros((8, 9), np.uint8))
    assert "have the same name" in fails(*arguments)
    assert "contains no .png" in fails("refine", "--labels", tmp_path / "none", *arguments[3:])


def test_colors_of_no_class_become_void():
    rows = [{"name": "a", "color": [255, 0, 0]}, {"name": "b", "color": [0, 255, 0]}]
    classes = ClassTable.from_dict({"masks": "colors", "void_colors": [[1, 2, 3]], "classes": rows}, "colours")
    ids = np.array([[0xFF0000, 0x00FF00, 0x0000FF, 0x010203]], np.uint32)
    found = only_classes(LabelMap(ids, "RGB", "PNG"), classes, "a.png")
    np.testing.assert_array_equal(found.ids, [[0xFF0000, 0x00FF00, 0x010203, 0x010203]])
    with pytest.raises(InputError, match="a.png is an image of mode RGB, but masks of"):
        only_classes(LabelMap(ids, "RGB", "PNG"), load_classes("camvid"), "a.png")


def test_transparency_is_kept(tmp_path):
    palette_picture(VALUES, 5).save(tmp_path / "a.png", transparency=bytes([0, 255, 255, 255, 255]))
    write_labels(tmp_path / "b.png", read_labels(tmp_path / "a.png"))
    with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.png") as after:
        np.testing.assert_array_equal(*(np.asarray(picture.convert("RGBA")) for picture in (before, after)))


def test_wrong_usage(setting, tmp_path, fails):
    root = setting
    labels = "--labels", root / "val" / "label"
    arguments = "refine", "--out", tmp_path / "out", "--checkpoint", root / "checkpoint"
    assert "give their folder, --images" in fails(*arguments, *labels)
    assert "--annotations names the images of --coco" in fails(
        *arguments[:3], *labels, *net(root), "--annotations", "x"
    )
    of_instances = "--instances", tmp_path, *net(root)
    assert "are for label maps: give --labels" in fails(*arguments[:3], *of_instances, "--void", 3)
    offsets = "--offsets", root / "offsets"
    assert "are for a net: give --checkpoint" in fails(*arguments[:3], *labels, *offsets, "--window", "8x8")
    predict = "predict", *net(root), "--out", tmp_path
    assert "--window is HEIGHTxWIDTH, such as 512x512, found '64'" in fails(*predict, "--window", "64")
    assert "give their size, too" in fails(*predict, "--stride", "8x8")
    assert "leaves gaps between windows" in fails(*predict, "--window", "32x32", "--stride", "40x40")
    assert "have the same name" in fails(*predict, "--images", *[root / "val" / "image" / "scene0.png"] * 2)
    shutil.copytree(root / "val" / "image", tmp_path / "images")
    folders.save(tmp_path / "images" / "scene0.png", np.zeros((9, 9, 3), np.uint8))
    assert "its image of (9, 9)" in fails(*arguments, *labels, "--images", tmp_path / "images")
    write_cityscapes(tmp_path / "given", "other", [instances.Instance("a.png", 26, 0.5)], [np.ones((9, 9))])
    said = fails(*arguments[:3], "--instances", tmp_path / "given", *net(root))
    assert "1 of 1 images with instances have no image in" in said
    model = tiny.create("hrnet_w48", num_classes=3)
    saved = checkpoints.Checkpoints(tmp_path / "checkpoint")
    saved.save(tiny.random_variables(model), checkpoints.Metadata(model.spec.to_dict(), Normalization()))
    saved.close()
    assert "predicts no boundaries and directions" in fails(*predict, "--checkpoint", tmp_path / "checkpoint")
    truth = "truth", "--root", tmp_path, "--split", "train", "--classes"
    assert "there is no class table" in fails(*truth, "none")
    assert "contains no .png" in fails(*truth, "camvid")


@pytest.mark.parametrize("command", [(), ("predict",), ("refine",), ("truth",)])
def test_help_has_an_example(command, capsys):
    assert commands.call(MODULE, *command, "--help") == 0
    assert f"openseg segfix {' '.join(command)}" in " ".join(capsys.readouterr().out.split())
