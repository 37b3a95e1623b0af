"""Nonsense in every field of a config: each value is refused in a sentence, or is within what its field declares."""

import dataclasses
import decimal
import fractions
import json
import math
import types
import typing
import warnings

import numpy as np
import pytest
from ml_collections import ConfigDict

from openseg_jax import config
from openseg_jax.config.schema import LARGEST_AREA, ExtraData
from openseg_jax.data.augmentation import Augmentation
from openseg_jax.data.collate import make_collate
from openseg_jax.errors import InputError
from openseg_jax.inference.protocols import make_protocol
from openseg_jax.training.optimizer import Optimizer
from tests.config.test_wrong import changed, fields
from tests.robustness import FUZZ, generator, is_sentence

RECIPES = (
    "folder:hrnet_w18_small_v1_ocr",
    "cityscapes:hrnet_w48_ocr,ohem",
    "segfix:camvid,small",
    "synthetic",
    "ade20k",
)
FIELDS = list(fields())
SELF: list = []
SELF.append(SELF)
DEEP: tuple = ()
for _ in range(500):
    DEEP = (DEEP,)


class Odd:
    """An object whose text cannot be had."""

    def __repr__(self):
        raise RuntimeError("no text")


NUMBERS = [
    0, 1, -1, 2, 3, 7, 254, 255, 256, 1024, 32_768, 32_769, 2**31 - 1, 2**31, 2**32, 2**63, 10**30, 10**400, 10**5000,
    -(10**400), 0.0, -0.0, 0.5, 1.0, 1.5, 0.999999999999, 1e-9, 1e-45, 1e-300, 1e39, 1e300, -1e300, math.nan, math.inf,
    -math.inf, True, False, np.int64(3), np.float32(0.5), np.float64("nan"), np.bool_(True), 3 + 4j,
    fractions.Fraction(1, 3), decimal.Decimal(2),
]  # fmt: skip
OTHERS = [
    None, "", " ", "1", " 5 ", "1e-3", "nan", "True", "ce", " ce", "CE", "text", "a\nb", "a\0b", "\ud800", "x" * 10**5,
    "../../x", "~", "{}", "[/]", b"bytes", (), [], {}, set(), frozenset({1}), range(3), object, object(), Odd(), print,
    np.zeros(2), np.zeros((2, 2)), np.array("x"), {"a": 1}, {1: 2}, {"": {}}, ConfigDict({"a": 1}), ((),),
    ((1, 2), (3,)), [[1, 2], [3, 4]], ({},), ({"root": 3},), ({"split": "val"},), SELF, DEEP,
]  # fmt: skip


def nonsense(rng, hint, setting):
    """Returns a value of any kind, of which some are near the limits of the field."""
    limits = [x for x in (setting.above, setting.least, setting.below, setting.most) if x is not None]
    near = [x + step for x in limits for step in (-1, -1e-9, 0, 1e-9, 1)] + [int(x) for x in limits]
    near += [*setting.choices, *(f"{choice} " for choice in setting.choices[:3])]
    pool = (NUMBERS, OTHERS, near or NUMBERS)[rng.integers(3)]
    value = pool[rng.integers(len(pool))]
    if rng.random() < 0.4:
        count = rng.integers(0, 5)
        value = tuple([value, *(pool[rng.integers(len(pool))] for _ in range(count))][:count])
    if typing.get_origin(hint) is not None and rng.random() < 0.2:
        value = (value, value)
    return value


def mutations(rng):
    """Yields the name of a recipe, and values for one to three fields."""
    while True:
        chosen = [FIELDS[i] for i in rng.integers(len(FIELDS), size=rng.integers(1, 4))]
        yield RECIPES[rng.integers(len(RECIPES))], {n: nonsense(rng, hint, setting) for n, hint, setting in chosen}


def is_declared(value, hint, setting) -> bool:
    """Whether a value is of the type of a field and within its limits, in float32, too."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(is_declared(value, option, setting) for option in arguments)
    if origin is tuple and ExtraData in arguments:
        return all(isinstance(entry, ExtraData) for entry in value)
    if origin is tuple:
        arguments = (arguments[0],) * len(value) if arguments[1:] == (...,) else arguments
        ordered = {"": True, "range": [*value] == sorted(value), "rising": [*value] == sorted(set(value))}
        if hint == tuple[int, int] and setting.product and math.prod(value) > LARGEST_AREA:
            return False
        fits = type(value) is tuple and len(value) == len(arguments) and ordered[setting.ordered]
        return fits and all(is_declared(x, option, setting) for x, option in zip(value, arguments, strict=True))
    if origin is not None:
        return type(value) is dict
    if type(value) is not hint:
        return False
    if hint is str:
        return "\0" not in value and (value in setting.choices if setting.choices else value or not setting.filled)
    if hint is bool:
        return True
    s = setting
    for number in (value, float(np.float32(value))) if hint is float else (value,):
        high = (s.above is None or number > s.above) and (s.least is None or number >= s.least)
        low = (s.below is None or number < s.below) and (s.most is None or number <= s.most)
        if not (math.isfinite(number) and high and low):
            return False
    return hint is float or value < 2**32


def check(found: config.Config, changes=("schedule",)):
    """A config that is not refused survives its JSON text, and what is made of it without data can be made."""
    for name, hint, setting in FIELDS:
        value = found
        for part in name.split("."):
            value = getattr(value, part)
        assert is_declared(value, hint, setting), (name, value)
    assert config.typed(json.loads(found.to_json())) == found
    make_protocol(found.eval)
    if any(name.startswith(("optimizer", "schedule", "train.steps")) for name in changes):
        rates = Optimizer(found.optimizer, found.schedule, found.train.steps).rates(0)
        assert all(map(np.isfinite, rates.values()))
    rng = generator(0)
    try:
        size = (30, 400)
        for step in Augmentation(**vars(found.augment)).draw(size, rng):
            size = step.size_after(size)
        assert min(size) >= 1
        make_collate(found.augment).draw(size, make_collate(found.augment).target(rng), rng)
    except InputError as error:
        is_sentence(error, "does not fit into a batch", "the largest side may have")


def around(changes):
    """The names of fields, and of their sections, whose other fields they may contradict."""
    return [*changes, *(f"{name.partition('.')[0]}." for name in changes)]


@pytest.mark.filterwarnings("ignore")
def test_nonsense_in_every_field():
    rng, right, count = generator(14), 0, 800 * FUZZ
    for _, (recipe, changes) in zip(range(count), mutations(rng), strict=False):
        try:
            check(config.typed(changed(changes, recipe)), changes)
            right += 1
        except InputError as error:
            is_sentence(error, *around(changes))
    print(f"{count} inputs: {right} right, {count - right} refused")


def test_nonsense_on_the_command_line():
    rng, right, count = generator(15), 0, 100 * FUZZ
    texts = [
        "(",
        "((",
        "[1,",
        "{",
        "{'a'",
        "'",
        "-" * 5000,
        "(" * 5000,
        "9" * 5000,
        "1_0",
        "0x1",
        "(1,2)",
        "--config.x",
    ]
    for _, (recipe, changes) in zip(range(count), mutations(rng), strict=False):
        words = []
        for name, value in changes.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    text = value if isinstance(value, str) else repr(value)
                except Exception:
                    text = texts[rng.integers(len(texts))]
            text = texts[rng.integers(len(texts))] if rng.random() < 0.3 else text
            words += [f"--config.{name}={text}"] if rng.random() < 0.9 else [f"--config.{name}", text]
        try:
            check(config.load(recipe, words), changes)
            right += 1
        except InputError as error:
            is_sentence(error, *around(changes), "is --config.FIELD=VALUE", "there is no field x")
    print(f"{count} inputs: {right} right, {count - right} refused")


SOURCES = [
    b"", b"def get_config(", b"\0", b"\xff\xfe", b"# coding: nonsense\n", b"# coding: utf-16\n", b"x" * 10**6,
    b"(" * 10**5, b"get_config = 3", b"get_config = dict", b"get_config = type", b"get_config = print",
    b"raise SystemExit", b"raise SystemExit(0)", b"import sys\nsys.exit('no')", b"1 / 0", b"raise ValueError('a\\nb')",
    b"class E(Exception):\n    def __str__(self):\n        1 / 0\nraise E", b"from nowhere import x",
    b"def get_config():\n    return get_config()", b"def get_config(*a):\n    raise MemoryError",
    b"def get_config(a, b):\n    return a", b"def get_config():\n    yield",
    b"def get_config():\n    pass", b"def get_config():\n    return {}", b"class get_config: pass",
    b"from ml_collections import ConfigDict\ndef get_config():\n    c = ConfigDict()\n    c.c = c\n    return c",
    b"from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'train': {'steps': object()}})",
    b"from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'model': {'options': {1: 2}}})",
    b"from ml_collections import ConfigDict, config_dict as d\ndef get_config():\n"
    b"    return ConfigDict({'train': {'steps': d.required_placeholder(int)}})",
    b"from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'a\\nb': 3})",
    b"from openseg_jax.config import Config\nget_config = Config",
]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: repr(source)[:60])
def test_files_that_are_no_configs(source, tmp_path):
    path = tmp_path / "mine.py"
    path.write_bytes(source)
    with pytest.raises(InputError) as error:
        config.load(str(path))
    is_sentence(error.value, "mine.py", "a config", "there is no field", "train.steps", "model.options")


SPECS = [
    "", ":", "::", " ", "folder:,", "folder:,,", "folder: ", "folder:hrnet_w18_ocr,", "folder:a\nb", "folder:\0",
    "segfix:,", "segfix:" + "," * 1000, "x" * 5000, "x" * 5000 + ".py", "~nobody_here/x.py", "/", ".", "..", "./",
    "a/\0.py", "folder:" + "x" * 10**5, "cityscapes:hrnet_w48_ocr" + ",ohem" * 3, "\ud800.py", "common", "legacy",
    "__init__", "legacy.convert", "os", "configs.camvid", "folder.py", "cityscapes:hrnet_w48_ocr:ohem",
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: repr(spec)[:40])
def test_specs_that_name_no_config(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    try:
        check(config.load(spec))
    except InputError as error:
        is_sentence(error, "config", "recipe", "model", "option", "data set")


def test_a_config_that_is_given_stays():
    found = config.load("folder")
    assert config.typed(found) == found
    with pytest.raises(InputError):
        config.typed(dataclasses.replace(found, seed=-1))
