"""The class tables of the benchmarks: ids against the loaders of the original, colours against its palettes."""

import json
from importlib import resources

import numpy as np
import pytest

from openseg_jax.data import load_classes
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import IGNORE, ClassTable, bit_color, known_tables, load_about, to_labels

CLASSES = {
    "ade20k": 150,
    "atr": 18,
    "atr_as_lip": 20,
    "camvid": 11,
    "celeba": 19,
    "cihp": 20,
    "cityscapes": 19,
    "coco_stuff_10k": 171,
    "coco_stuff_164k": 171,
    "lip": 20,
    "mapillary": 65,
    "mapillary_as_cityscapes": 19,
    "oxford_pets": 3,
    "pascal_context_59": 59,
    "pascal_context_60": 60,
    "pascal_voc": 21,
}

# What the original's loaders give, recorded on masks of all bytes: (first id, last id, train id of the first).
ENCODED = {
    "cityscapes": [(7, 8, 0), (11, 13, 2), (17, 17, 5), (19, 28, 6), (31, 33, 16)],
    "ade20k": [(1, 150, 0)],
    "coco_stuff_10k": [
        *[(1, 11, 0), (13, 25, 11), (27, 28, 24), (31, 44, 26), (46, 65, 40)],
        *[(67, 67, 60), (70, 70, 61), (72, 82, 62), (84, 90, 73), (92, 182, 80)],
    ],
    "mapillary": [(0, 64, 0)],
}
# The original's generator, for the 66 entries of Mapillary Vistas: ids of Cityscapes.
VISTAS_TO_CITYSCAPES = [
    *[255, 255, 8, 13, 255, 255, 12, 7, 7, 8, 7, 8, 255, 7, 7, 8, 255, 11, 255, 24, 25, 25, 25, 7, 7, 255, 255, 23],
    *[255, 22, 21, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 17, 17, 20, 17, 19, 20, 20, 255],
    *[33, 255, 28, 26, 255, 32, 31, 255, 255, 27, 255, 255, 255, 255],
]
# The original's palettes, red and blue of the first exchanged.
ADE_COLORS = (
    "787878b4787806e6e650323204c8037878508c8c8ccc05ffe6e6e604fa07e005ffebff0796053d78784608ff33ff06528fff8cccff04"
    "ff3307cc46030066c83de6faff06330b66ffff0747ff09e00907e6dcdcdcff095c7009ff08ffd607ffe0ffb8060aff47ff290a07ffff"
    "e0ff086608ffff3d06ffc207ff7a0800ff14ff0829ff05990633ffeb0cffa0961400a3ff8c8c8cfa0a0f14ff001fff00ff1f00ffe000"
    "99ff000000ffff470000ebff00adff1f00ff0bc8c8ff520000fff5003dff00ff7000ff85ff0000ffa300ff6600c2ff00008fff33ff00"
    "0052ff00ff2900ffad0a00ffadff0000ff99ff5c00ff00ffff00f5ff0066ffad00ff0014ffb8b8001fff00ff3d0047ffff00cc00ffc2"
    "00ff52000aff0070ff3300ff00c2ff007aff00ffa3ff990000ff0aff70008fff005200ffa3ff00ffeb0008b8aa8500ff00ff5cb800ff"
    "ff001f00b8ff00d6ffff00705cff0000e0ff70e0ff46b8a0a300ff9900ff47ff00ff00a3ffcc00ff008f00ffeb85ff00ff00ebf500ff"
    "ff007afff5000abed4d6ff0000ccff1400ffffff000099ff0029ff00ffcc2900ff29ff00ad00ff00f5ff4700ff7a00ff00ffb8005cff"
    "b8ff000085ffffd60019c2c266ff005c00ff"
)
CITYSCAPES_COLORS = (
    "804080f423e846464666669cbe9999999999faaa1edcdc006b8e2398fb984682b4dc143cff000000008e000046003c640050640000e6770b20"
)
CELEBA_COLORS = (
    "000000cc00004c9900cccc003333ffcc00cc00ffffffcccc663300ff000066cc00ffff000000990000ccff339900cccc003300ff993300cc00"
)
LEFT_AND_RIGHT = {
    "atr": ["leg", "arm", "shoe"],
    "atr_as_lip": ["leg", "arm", "shoe"],
    "celeba": ["eye", "brow", "ear"],
    "cihp": ["leg", "arm", "shoe"],
    "lip": ["leg", "arm", "shoe"],
}


def documented(table: ClassTable) -> np.ndarray:
    """Every id that may stand in a mask, uint8."""
    ids = {i for i in (*table.ids, *sum(table.aliases, ()), *table.void) if i is not None}
    return np.array(sorted(ids), np.uint8)


def palette(content: str) -> list[tuple[int, int, int]]:
    return [tuple(color) for color in np.frombuffer(bytes.fromhex(content), np.uint8).reshape(-1, 3).tolist()]


def test_there_are_no_others():
    assert known_tables() == sorted(CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_table(name):
    table = load_classes(name)
    assert len(table) == CLASSES[name]
    assert table.masks == "ids"
    assert IGNORE in table.void
    assert ClassTable.from_dict(table.to_dict(), name) == table
    assert ClassTable.from_dict(json.loads(json.dumps(table.to_dict())), name) == table
    every = documented(table)
    train_ids = table.encode(every[None], name)[0]
    labelled = {k for k, i in enumerate(table.ids) if i is not None}
    assert set(train_ids.tolist()) == labelled | {IGNORE}
    assert set(every[train_ids == IGNORE].tolist()) == set(table.void)
    if len(every) < 256:
        with pytest.raises(InputError, match="which .* does not have"):
            table.encode(np.setdiff1d(np.arange(256), every).astype(np.uint8)[None], name)
    if len(labelled) == len(table):
        np.testing.assert_array_equal(table.encode(table.decode(train_ids), name), train_ids)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_about(name):
    about = load_about(name)
    assert about.home.startswith(("http://", "https://"))
    assert about.licence
    assert about.download
    assert set(about.splits) <= {"train", "val", "trainval", "test", "coarse"}
    assert all(isinstance(count, int) and count > 0 for count in about.splits.values())
    for entry in about.citation.split("\n\n"):
        assert entry.startswith("@")
        assert entry.endswith("\n}")
        assert entry.count("{") == entry.count("}")
        assert "author = " in entry
        assert "title = " in entry


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_no_misspelt_keys(name):
    content = json.loads(resources.files("openseg_jax.labels").joinpath(f"tables/{name}.json").read_text("utf-8"))
    about = {"home", "licence", "download", "splits", "citation"}
    assert set(content) - about - {"flip_pairs"} == {"title", "void", "classes"}
    assert {key for row in content["classes"] for key in row} - {"aliases"} == {"name", "id", "color"}


@pytest.mark.parametrize("name", sorted(ENCODED))
def test_ids_of_the_originals_loaders(name):
    want = np.full(256, -1)
    for first, last, train_id in ENCODED[name]:
        want[first : last + 1] = np.arange(train_id, train_id + last - first + 1)
    table = load_classes(name)
    ids = documented(table)
    np.testing.assert_array_equal(to_labels(table.encode(ids[None], name)[0]), want[ids])
    assert set(np.flatnonzero(want >= 0)) <= set(ids.tolist())


def test_both_releases_of_coco_stuff():
    old, new = load_classes("coco_stuff_10k"), load_classes("coco_stuff_164k")
    assert old.names == new.names
    assert old.colors == new.colors
    assert [i - 1 for i in old.ids] == list(new.ids)
    assert {i - 1 for i in old.void if 0 < i < 255} == set(new.void) - {255}
    assert (new.names[0], new.ids[0], new.names[-1], new.ids[-1]) == ("person", 0, "wood", 181)


def test_vistas_as_cityscapes():
    city, vistas = load_classes("cityscapes"), load_classes("mapillary_as_cityscapes")
    assert vistas.names == city.names
    assert vistas.colors == city.colors
    raw = np.arange(66, dtype=np.uint8)[None]
    as_city = np.array(VISTAS_TO_CITYSCAPES, np.uint8)[None]
    np.testing.assert_array_equal(vistas.encode(raw, ""), city.encode(as_city, ""))
    names = load_classes("mapillary").names
    assert [names[i] for i in vistas.ids[:6]] == ["Road", "Sidewalk", "Building", "Wall", "Fence", "Pole"]
    assert [names[i] for i in vistas.aliases[vistas.names.index("rider")]] == ["Motorcyclist", "Other Rider"]


def test_atr_as_lip():
    atr, lip, both = (load_classes(name) for name in ("atr", "lip", "atr_as_lip"))
    assert both.names == lip.names
    assert both.colors == lip.colors
    assert both.flip_pairs == lip.flip_pairs
    train_ids = both.encode(np.array([atr.ids], np.uint8), "")[0]
    for name, train_id in zip(atr.names, train_ids, strict=True):
        assert name in ("belt", "bag") if train_id == IGNORE else lip.names[train_id] == name
    missing = [name for name, i in zip(both.names, both.ids, strict=True) if i is None]
    assert missing == ["glove", "coat", "socks", "jumpsuits"]
    with pytest.raises(InputError, match="has no ids for glove, coat, socks, jumpsuits"):
        both.decode(train_ids)


def test_cihp_is_not_lip():
    lip, cihp = load_classes("lip"), load_classes("cihp")
    different = [(a, b) for a, b in zip(lip.names, cihp.names, strict=True) if a != b]
    assert different == [("jumpsuits", "torso-skin")]


def test_background_of_pascal_context():
    without, with_it = load_classes("pascal_context_59"), load_classes("pascal_context_60")
    assert with_it.names == ("background", *without.names)
    assert with_it.colors[1:] == without.colors
    assert with_it.ids == (0, *without.ids)
    assert list(without.names) == sorted(without.names)
    assert 0 in without.void
    assert 0 not in with_it.void


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_flip_pairs(name):
    table = load_classes(name)
    parts = []
    for a, b in table.flip_pairs:
        left, right = table.names[a], table.names[b]
        parts.append(left.removeprefix("left-").removeprefix("l_"))
        assert right in (f"right-{parts[-1]}", f"r_{parts[-1]}")
    assert sorted(parts) == sorted(LEFT_AND_RIGHT.get(name, []))


@pytest.mark.parametrize(
    ("name", "colors"),
    [
        ("ade20k", palette(ADE_COLORS)),
        ("pascal_context_60", palette(ADE_COLORS)[:60]),
        ("cityscapes", palette(CITYSCAPES_COLORS)),
        ("celeba", palette(CELEBA_COLORS)),
        ("lip", [bit_color(i) for i in range(20)]),
        ("pascal_voc", [bit_color(i) for i in range(21)]),
        ("coco_stuff_10k", [bit_color(i) for i in range(1, 172)]),
    ],
)
def test_colors(name, colors):
    assert list(load_classes(name).colors) == colors


def test_a_few_colors_by_name():
    ade = load_classes("ade20k")
    by_name = dict(zip(ade.names, ade.colors, strict=True))
    assert by_name["wall"] == (120, 120, 120)
    assert by_name["building"] == (180, 120, 120)
    assert by_name["sky"] == (6, 230, 230)
    vistas = load_classes("mapillary")
    assert vistas.colors[vistas.names.index("Bird")] == (165, 42, 42)
    assert vistas.colors[vistas.names.index("Ego Vehicle")] == (120, 10, 10)
    # Vistas took these colours over from Cityscapes
    city = load_classes("cityscapes")
    for name in ("Road", "Sidewalk", "Building", "Wall", "Fence", "Sky", "Terrain", "Vegetation", "Car", "Bicycle"):
        assert vistas.colors[vistas.names.index(name)] == city.colors[city.names.index(name.lower())]
