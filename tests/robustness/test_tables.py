"""Class tables as trees and as texts that somebody damaged: each is refused in a sentence, or can be used."""

import copy
import json

import numpy as np
import pytest
import yaml

from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable, load_classes
from tests.robustness import FUZZ, generator, is_sentence

COUNT = 400 * FUZZ
RIGHT = [
    {"classes": ["road", "sky", "car"]},
    {
        "title": "Mine", "void": "others", "flip_pairs": [["left", "right"]],
        "classes": [
            {"name": "ground", "id": 3, "aliases": [4, 5]}, {"name": "left", "id": None}, {"name": "right", "id": 9},
        ],
    },
    {
        "masks": "colors", "void": [200, 255], "void_colors": [[0, 0, 0]],
        "classes": [{"name": "a", "color": [1, 2, 3]}, {"name": "b", "color": [4, 5, 6]}],
    },
    load_classes("camvid").to_dict(),
]  # fmt: skip
DEEP: list = []
for _ in range(100):
    DEEP = [DEEP]
VALUES = [
    None, True, False, 0, 1, -1, 3, 254, 255, 256, 10**30, 10**5000, 2.0, 0.5, float("nan"), float("inf"), "", " ", "x",
    "others", "ids", "colors", "2024", "a\nb", "\0", "\x1b[31m", "\u202e", "\u200b", "\ud800", "[/]", "[bold]", "$x_{$",
    "<script>", "x" * 201, "x" * 10**5, "שלום", "道路", [], {}, [[]], [{}], {"a": 1}, [0], [255, 255], [None], ["road"],
    [1, 2, 3], [True, False, True], [[1, 2, 3]], [["left", "left"]], [["road", "sky"], ["sky", "car"]], DEEP, "road",
    {"name": "road"}, [1] * 300, list(range(256)), [{"name": "n", "colour": [1, 2, 3]}],
]  # fmt: skip


def places(tree, path=()):
    """Yields the path of every node of a tree."""
    yield path
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from places(value, (*path, key))


def damaged(rng, tree):
    """Returns a tree in which one or two nodes are replaced, renamed, removed or doubled."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.integers(1, 3)):
        found = [path for path in places(tree) if path]
        if not found:
            return tree
        *outer, last = found[rng.integers(len(found))]
        node = tree
        for key in outer:
            node = node[key]
        value = VALUES[rng.integers(len(VALUES))]
        action = rng.integers(6)
        if action == 0:
            del node[last]
        elif action == 1 and isinstance(node, dict):
            node[str(value)[:30] if not isinstance(value, int) else "idd"] = node.pop(last)
        elif action == 2 and isinstance(node, list):
            node.append(copy.deepcopy(node[last]))
        elif len(outer) < 20:
            node[last] = copy.deepcopy(value)
    return VALUES[rng.integers(len(VALUES))] if rng.random() < 0.02 else tree


def mutations(rng):
    """Yields trees, and the texts of JSON and YAML files."""
    while True:
        tree = damaged(rng, RIGHT[rng.integers(len(RIGHT))])
        yield "tree", tree
        start = RIGHT[rng.integers(len(RIGHT))]
        suffix = (".json", ".yaml")[rng.integers(2)]
        text = json.dumps(start, indent=1) if suffix == ".json" else yaml.safe_dump(start, sort_keys=False)
        data = bytearray(text.encode())
        for _ in range(rng.integers(1, 3)):
            place, junk = rng.integers(len(data) + 1), JUNK[rng.integers(len(JUNK))]
            data[place : place + rng.integers(0, 12)] = junk
        yield suffix, bytes(data)


JUNK = [
    *map(str.encode, "[]{}:,\"'&*!|>-?#%@`\n\t\\"), b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"&a ", b"*a", b"<<: *a",
    b"!!python/object/apply:os.system ['touch planted']", b"!!int ''", b"!!timestamp x", b"NaN", b".inf", b"1e999",
    b"9" * 5000, b"[" * 500, b"{a: " * 300, b"- " * 300, b'{"a":' * 300, b"classes: []\n", b'"title": 3, ', b"---\n",
    b"null", b"yes", b"2024-99-99", b"\n" * 50, b"x" * 3000, "\u202e".encode(),
]  # fmt: skip


def check(table: ClassTable):
    """A table that is not refused can be written, read and used."""
    again = ClassTable.from_dict(json.loads(json.dumps(table.to_dict())), "again")
    assert again == table
    for text in (table.title, *table.names):
        assert isinstance(text, str)
        assert text.strip() == text
        assert "\n" not in text.encode().decode()
    assert table.lookup.shape == (256,)
    if None not in table.ids:
        train_ids = np.arange(len(table), dtype=np.uint8)[None]
        ids = table.decode(train_ids)
        mask = np.array(table.colors, np.uint8)[None] if table.masks == "colors" else ids
        np.testing.assert_array_equal(table.encode(mask, "mask"), train_ids)


def test_damaged_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, right = generator(14), 0
    for _, (kind, content) in zip(range(COUNT), mutations(rng), strict=False):
        path = tmp_path / f"classes{kind}"
        try:
            if kind == "tree":
                check(ClassTable.from_dict(content, "mine.json"))
            else:
                path.write_bytes(content)
                check(load_classes(str(path)))
            right += 1
        except InputError as error:
            is_sentence(error, "mine.json" if kind == "tree" else path.name)
    assert {path.stem for path in tmp_path.iterdir()} == {"classes"}
    print(f"{COUNT} inputs: {right} right, {COUNT - right} refused")


REFUSED = [
    ({"classes": 5}, 'needs a list "classes"'),
    ({"classes": "abc"}, 'needs a list "classes"'),
    ({"classes": {"road": 1}}, 'needs a list "classes"'),
    ({"classes": [True, "sky"]}, "are strings only in quotes"),
    ([{"name": "a"}], 'needs a list "classes"'),
    ({"title": 2024, "classes": ["a"]}, "title must be a string, found 2024: put it in quotes"),
    ({"title": None, "classes": ["a"]}, "title must be a string, found None"),
    ({"title": ["a"], "classes": ["a"]}, "title must be a string, found ['a']"),
    ({"classes": [""]}, "the name of a class must be a text of 1 to 200 characters"),
    ({"classes": [" a"]}, "without spaces around it"),
    ({"classes": ["a\nb"]}, r"found 'a\nb'"),
    ({"classes": ["x" * 201]}, "1 to 200 characters"),
    ({"classes": ["\u202eabc"]}, "without control characters"),
    ({"classes": [{"name": "a", "aliases": 5}]}, "aliases must be a list of ids, found 5"),
    ({"classes": [{"name": "a", "id": True}]}, "ids are whole numbers from 0 to 255, found True"),
    ({"classes": [{"name": "a", "id": "0"}]}, "ids are whole numbers from 0 to 255, found '0'"),
    ({"classes": [{"name": "a", "id": None}]}, "none of the classes has an id"),
    ({"classes": [{"name": "a", "idd": 3}]}, "the class 'a' has no key 'idd'; did you mean id?"),
    ({"clases": [], "classes": ["a"]}, "a class table has no key 'clases'; did you mean classes?"),
    ({"classes": ["a"], "void": 255}, "void must be a list of ids, found 255"),
    ({"classes": ["a"], "void": "other"}, "void must be a list of ids, found 'other'"),
    ({"classes": ["a"], "void": [255, 255]}, "every id may stand for only one class or for void, found 255 twice"),
    ({"classes": [{"name": "a", "color": "red"}]}, "a colour is red, green and blue from 0 to 255, found 'red'"),
    ({"classes": ["a"], "void_colors": [[0, 0, 0]]}, "void_colors are for"),
    ({"classes": ["a"], "masks": ["ids"]}, '"masks" must be "ids" or "colors", found ['),
    ({"classes": ["a", "b"], "flip_pairs": 3}, "flip_pairs are pairs of class names"),
    ({"classes": ["a", "b"], "flip_pairs": ["ab"]}, "flip_pairs are pairs of class names, each in one pair only"),
    ({"classes": ["a", "b"], "flip_pairs": [["a", "a"]]}, "found 'a' twice"),
    ({"classes": ["a", "b"], "flip_pairs": [[["a"], "b"]]}, "flip_pairs are pairs of class names"),
    ({"classes": [str(i) for i in range(255)]}, "a table has at most 254 classes, found 255"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_what_is_wrong_with_a_table_is_said(content, message):
    with pytest.raises(InputError) as error:
        ClassTable.from_dict(content, "mine.yaml")
    assert str(error.value).startswith("mine.yaml")
    assert message in str(error.value)


def test_text_of_all_kinds_may_be_a_name():
    names = ("[/]", "[bold]x[/bold]", "$x_{$", "<b>", "שלום", "道路", "می\u200cخواهم", "a&b", "x" * 200)
    table = ClassTable.from_dict({"classes": list(names)}, "mine.json")
    check(table)
    assert table.names == names


def test_the_title_of_a_table_without_one_is_its_path():
    assert ClassTable.from_dict({"classes": ["a"]}, "mine.json").title == "mine.json"
    odd = ClassTable.from_dict({"classes": ["a"]}, "x" * 400 + "\n\ud800/mine.json")
    check(odd)
    assert odd.title.endswith("x??/mine.json")


@pytest.mark.parametrize("name", ["~nobody_here/x.json", "x" * 5000 + ".json", "a\0.json", "classes.json"])
def test_names_that_are_no_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classes.json").mkdir()
    with pytest.raises(InputError, match="there is no class table"):
        load_classes(name)
