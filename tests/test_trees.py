"""Trees of JSON and YAML: what they may be, and what is refused."""

import time

import pytest

from openseg_jax.errors import InputError
from openseg_jax.trees import DEEPEST, LARGEST, parse_json, parse_yaml, read_tree

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a: 1\nb: [x, yes, 2.5, null, 0x1f, 1_000, '12']\n", {"a": 1, "b": ["x", True, 2.5, None, 31, 1000, "12"]}),
        ("day: 2024-01-01\nodd: [=, <<]\n", {"day": "2024-01-01", "odd": ["=", "<<"]}),
        ("a: !!str 5\nb: |\n  x\n  y\n", {"a": "5", "b": "x\ny\n"}),
        ("\ufeffa: {b: {}, c: []}\n", {"a": {"b": {}, "c": []}}),
        ("", None),
    ],
)
def test_yaml(text, tree):
    assert parse_yaml(text, "f.yaml") == tree


def test_json():
    assert parse_json('\ufeff{"a": [1, 2.5, true, null, "x"]}', "f.json") == {"a": [1, 2.5, True, None, "x"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x", "line 1 refers to another part: write it out"),
        (LAUGHS, "line 1 refers to another part"),
        ("a: 1\na: 2", "the key 'a' stands twice in one object"),
        (
            "- !!python/object/apply:os.system ['x']",
            "line 1 has the tag tag:yaml.org,2002:python/object/apply:os.system",
        ),
        ("a: !!int ''", "line 1: '' is not of its kind"),
        ("a: !!timestamp x", "line 1 has the tag"),
        ("1: 2", "the key 1 before line 2 is no string: quote it"),
        ("[.nan]", ".nan is no number"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("a\n---\nb", "it holds several documents"),
        ("{a: b", "while parsing a flow mapping"),
        ("- " * (DEEPEST + 1) + "a", f"it nests deeper than {DEEPEST} levels"),
        ("[" * 500_000, "nest"),
        ("{a: [b, " * 100_000, "nest"),
        ("\0", "control characters are not allowed"),
    ],
    ids=lambda text: text[:20],
)
def test_yaml_that_is_refused(text, message):
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        parse_yaml(text, "f.yaml")
    assert time.monotonic() - start < 2
    assert str(error.value).startswith("f.yaml is not valid YAML: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' stands twice in one object"),
        ("NaN", "NaN is no number"),
        ("[1e400]", "1e400 is no number"),
        ("9" * 5000, "Exceeds the limit"),
        ("[" * 40 + "]" * 40, f"it nests deeper than {DEEPEST} levels"),
        ("[" * 500_000, f"it nests deeper than {DEEPEST} levels"),
        ('{"a":' * 100_000, f"it nests deeper than {DEEPEST} levels"),
        ("", "Expecting value: line 1"),
    ],
    ids=lambda text: text[:20],
)
def test_json_that_is_refused(text, message):
    with pytest.raises(InputError) as error:
        parse_json(text, "f.json")
    assert str(error.value).startswith("f.json is not valid JSON: ")
    assert message in str(error.value)


def test_files(tmp_path):
    for name, content, message in (
        ("a.json", None, "there is no file"),
        ("b.json", b"\xff", "is not a UTF-8 text file"),
        ("c.yaml", b"#" * (LARGEST + 1), "have at most"),
        ("x" * 300 + ".json", None, "File name too long"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_tree(tmp_path / name)
    with pytest.raises(InputError, match="there is no file"):
        read_tree(tmp_path)
    (tmp_path / "d.yml").write_text("a: b")
    assert read_tree(tmp_path / "d.yml") == {"a": "b"}
