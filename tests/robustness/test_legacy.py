"""JSON configs of the original in which everything may stand: what is written from them is a config, and only that."""

import ast
import contextlib
import copy
import json

import pytest

from openseg_jax.cli.arguments import Parser
from openseg_jax.config import load, typed
from openseg_jax.errors import InputError
from openseg_jax.recipes.legacy.convert import import_config, source_of
from openseg_jax.recipes.legacy.options import add_flags
from tests.recipes.test_legacy import JSON
from tests.robustness import FUZZ, generator, is_sentence
from tests.robustness.test_tables import VALUES, damaged

COUNT = 150 * FUZZ
CODE = "open('planted', 'w')"
HOSTILE = [
    f'"""\n{CODE}\n"""', f"'''\n{CODE}\n'''", f"'\n{CODE}\n#", f"')\n    {CODE}\n    ('", f"\\\n{CODE}", f"\r{CODE}",
    f"\x0c{CODE}", f"\x85{CODE}", f"\u2028{CODE}", f"\u2029{CODE}", f"\0{CODE}", f"# coding: utf-7\n+AAo-{CODE}",
    "coding: utf-16", f"{{{CODE}}}", f"%s {CODE}", "\\", "'", '"', "\\'", "a\\\n", "\u202e", "\ud800", "`id`",
    "__import__('os')", "x" * 5000,
]  # fmt: skip


def mutations(rng):
    """Yields texts of options in which keys and strings are hostile, and others of any kind."""
    while True:
        tree = copy.deepcopy(JSON)
        for _ in range(rng.integers(1, 6)):
            text = HOSTILE[rng.integers(len(HOSTILE))]
            section = tree[[*JSON][rng.integers(len(JSON))]]
            section = section if isinstance(section, dict) else tree
            section[text] = text
        tree["data"]["data_dir"] = [text, [text, text], text][rng.integers(3)]
        for name in ("pretrained", "resume"):
            tree["network"][name] = HOSTILE[rng.integers(len(HOSTILE))] if rng.random() < 0.5 else None
        with contextlib.suppress(ValueError):  # of numbers of thousands of digits, which json does not write
            yield json.dumps(damaged(rng, tree) if rng.random() < 0.5 else tree)


def is_only_a_config(text: str) -> None:
    """The statements are those that the importer writes, and every value is a literal."""
    docstring, imported, function = ast.parse(text).body
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(imported) == "from openseg_jax.recipes.common import base"
    assert isinstance(function, ast.FunctionDef)
    made, *changes, returned = function.body
    assert ast.unparse(made).startswith("config = base('")
    assert ast.unparse(returned) == "return config"
    for change in changes:
        assert isinstance(change, ast.Assign)
        (target,) = change.targets
        assert ast.unparse(target).startswith("config.")
        assert ast.unparse(target).replace(".", "").replace("_", "").isalnum()
        ast.literal_eval(change.value)
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert len(calls) == 1
    # The bytes of the file are read as what they were written as.
    assert ast.dump(ast.parse(text.encode())) == ast.dump(ast.parse(text))


@pytest.fixture
def flags():
    parser = Parser()
    add_flags(parser)
    return lambda *words: parser.parse_args([*words])


def test_hostile_options(tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    rng, right, given = generator(14), 0, flags("--is_warm", "y")
    for number, text in zip(range(COUNT), mutations(rng), strict=False):
        name = ("coding=utf-7 .json", "H.json")[number % 2]
        (tmp_path / name).write_text(text)
        try:
            import_config(tmp_path / name, given, "mine.py", HOSTILE[number % len(HOSTILE)])
        except InputError as error:
            is_sentence(error, str(tmp_path / name))
        else:
            is_only_a_config((tmp_path / "mine.py").read_text(encoding="utf-8"))
            assert typed(load("./mine.py"))
            (tmp_path / "mine.py").unlink()
            right += 1
        (tmp_path / name).unlink()
        assert not any(path.name != "__pycache__" for path in tmp_path.iterdir())
    assert right > COUNT / 8
    print(f"{COUNT} inputs: {right} right, {COUNT - right} refused")


@pytest.mark.parametrize("text", HOSTILE)
def test_strings_are_literals_in_generated_code(text):
    fields = {"data.root": text, "data.extra": ({"root": text},)}
    found = source_of("fcnet", fields, [text, text], [text])
    is_only_a_config(found)
    values = [node.value for node in ast.walk(ast.parse(found)) if isinstance(node, ast.Assign)][1:]
    assert [ast.literal_eval(value) for value in values] == [*fields.values()]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "3", "null", '"x"', "[" * 10**5, '{"a":' * 10**5, '{"a": ' + "9" * 5000 + "}", '{"a": NaN}',
        '{"a": 1, "a": 2}',
        "{" + ",".join(f'"k{i}": {i}' for i in range(60_000)) + "}", "\ufeff{}", "{}", '{"network": []}', '{"data": 3}',
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_files_that_hold_no_options(text, tmp_path, flags):
    (tmp_path / "H.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        import_config(tmp_path / "H.json", flags(), tmp_path / "mine.py", "command")
    is_sentence(error.value, "H.json")
    assert not (tmp_path / "mine.py").exists()


def test_overrides_of_all_kinds(tmp_path, flags):
    (tmp_path / "H.json").write_text(json.dumps(JSON))
    keys = ("lr.base_lr", "loss.params", "network.factors+", "network", "a.b.c", "dataset.x", "gpu", "")
    values = [
        *(repr(value) for value in VALUES if not isinstance(value, int)),
        "{[]: 1}",
        "-" * 5000,
        "(" * 5000,
        "b'x'",
    ]
    rng = generator(14)
    for number in range(COUNT // 2):
        out = tmp_path / f"mine{number}.py"
        try:
            given = flags()
            given.overrides = [keys[rng.integers(len(keys))], values[rng.integers(len(values))]]
            import_config(tmp_path / "H.json", given, out, "command")
        except InputError as error:
            is_sentence(error, "H.json")
        else:
            is_only_a_config(out.read_text(encoding="utf-8"))
