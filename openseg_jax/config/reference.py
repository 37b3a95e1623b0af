"""The page docs/config.md, written from the schema and the recipes."""

import dataclasses
import importlib
import typing
from collections.abc import Iterator

from openseg_jax.config.check import describe
from openseg_jax.config.load import recipes
from openseg_jax.config.schema import Config, ExtraData

_TOP = """# Every field of a config

`python -m openseg_jax.config > docs/config.md` writes this page from `openseg_jax/config/schema.py` and the recipes.

A config is a recipe by name, `--config=cityscapes:hrnet_w48_ocr`, or a Python file of your own by path,
`--config=mine.py`, whose function `get_config` returns a `ConfigDict`:

```python
from openseg_jax.recipes.common import base


def get_config():
    config = base("hrnet_w18_ocr")
    config.data.classes = "camvid"
    config.train.steps = 4000
    return config
```

`--config.FIELD=VALUE` changes any field, as in `--config.train.steps=2000` or `--config.augment.crop="(512, 512)"`; the
last of several values of a field counts. All that is wrong with a config is reported at once, before anything is read
or written. Numbers are checked as the device takes them, in float32 and int32. In Python, `openseg_jax.config.load`
loads and checks a config.
"""


def reference() -> str:
    """Returns the page as Markdown."""
    return "\n".join([_TOP, *_recipes(), *_section(Config, "")])


def _recipes() -> Iterator[str]:
    modules = {name: importlib.import_module(f"openseg_jax.recipes.{name}") for name in recipes()}
    options = importlib.import_module("openseg_jax.recipes.common").OPTIONS
    yield "## Recipes\n\nAfter the colon stand a name and options, separated by commas; the name of a backbone is an"
    yield "option of every recipe.\n\n| recipe | what | without a name | options |\n|---|---|---|---|"
    for name, module in modules.items():
        title = module.__doc__.partition("\n")[0].rstrip(".")
        taken = ", ".join(f"`{option}`" for option in module.TAKES.options)
        yield f"| `{name}` | {title} | `{module.TAKES.default}` | {taken} |"
    yield "\n| option | what it does |\n|---|---|"
    yield from (f"| `{option}` | {meaning} |" for option, meaning in options.items())


def _section(kind: type, path: str) -> Iterator[str]:
    sections = []
    yield f"\n## {path or 'Top level'}\n\n{(kind.__doc__ or '').strip()}\n"
    yield "| field | default | allowed | meaning |\n|---|---|---|---|"
    for field in dataclasses.fields(kind):
        name, hint = f"{path}.{field.name}".lstrip("."), field.type
        if dataclasses.is_dataclass(hint):
            sections.append((hint, name))
            continue
        setting = field.metadata["setting"]
        allowed = "dictionaries" if ExtraData in typing.get_args(hint) else describe(hint, setting)
        if setting.unit:
            allowed += f"; {setting.unit}"
        if setting.product:
            allowed += f", {setting.product} pixels at most"
        default = "{}" if field.default is dataclasses.MISSING else repr(field.default)
        yield f"| `{name}` | `{default}` | {allowed} | {setting.help} |"
    for hint, name in sections:
        yield from _section(hint, name)
