"""Class tables: what the ids of a data set's masks mean. Small JSON files, `tables/` holds those of the benchmarks."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from openseg_jax.errors import InputError

IGNORE = 255  # the train id of pixels that do not count
_ILLEGAL = 254  # in lookup tables: an id that the mask must not contain


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """K classes in the order of the logits.

    names, colors: K names and K (red, green, blue).
    ids: the id of each class in the masks on disk; void: ids on disk that are ignored. Any other id is an error.
    """

    title: str
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ids: tuple[int, ...]
    void: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, mask: np.ndarray, where: str) -> np.ndarray:
        """Mask of ids on disk, uint8 (H, W) -> train ids 0..K-1 and 255. `where` names the mask in the error."""
        train_ids = self._lookup()[mask]
        if len(self) <= _ILLEGAL and (train_ids == _ILLEGAL).any():
            found = ", ".join(str(i) for i in np.unique(mask[train_ids == _ILLEGAL])[:8])
            raise InputError(
                f"{where} contains the ids {found}, which {self.title} does not have: its classes are the ids "
                f"{_ranges(self.ids)}, and {_ranges(self.void)} are ignored"
            )
        return train_ids

    def _lookup(self) -> np.ndarray:
        table = np.full(256, _ILLEGAL, np.uint8)
        table[list(self.void)] = IGNORE
        table[list(self.ids)] = np.arange(len(self))
        return table

    def to_dict(self) -> dict:
        classes = [
            {"name": name, "id": i, "color": list(color)}
            for name, i, color in zip(self.names, self.ids, self.colors, strict=True)
        ]
        return {"title": self.title, "void": list(self.void), "classes": classes}

    @classmethod
    def from_dict(cls, content: dict, where: str) -> ClassTable:
        """Raises InputError on anything incomplete or contradictory; `where` names the source in it."""
        rows = content.get("classes") if isinstance(content, dict) else None
        if not rows or not all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows):
            raise InputError(f'{where} needs a list "classes" of objects with a "name" each')
        ids = tuple(row.get("id", position) for position, row in enumerate(rows))
        void = tuple(content.get("void", [IGNORE]))
        every = [*ids, *void]
        if not all(isinstance(i, int) and 0 <= i <= 255 for i in every):
            raise InputError(f"{where}: ids are whole numbers from 0 to 255, found {every}")
        if len(set(every)) != len(every) or len(rows) > _ILLEGAL:
            raise InputError(f"{where}: every id may stand for one class or for void only, found {every}")
        colors = tuple(tuple(row.get("color", _bit_color(position + 1))) for position, row in enumerate(rows))
        return cls(content.get("title", where), tuple(row["name"] for row in rows), colors, ids, void)


def to_labels(train_ids):
    """uint8 train ids, 255 for void -> int32 with -1 for void, as nets that are told labels want them."""
    return jnp.where(train_ids == IGNORE, -1, train_ids.astype(jnp.int32))


def load_classes(name_or_path: str) -> ClassTable:
    """A table of `tables/` by name, or a JSON file of the same form by path."""
    known = sorted(
        file.name.removesuffix(".json") for file in resources.files(__package__).joinpath("tables").iterdir()
    )
    if name_or_path in known:
        text = resources.files(__package__).joinpath("tables", f"{name_or_path}.json").read_text()
    elif Path(name_or_path).is_file():
        text = Path(name_or_path).read_text()
    else:
        raise InputError(f"there is no class table {name_or_path!r}: give a JSON file or one of {', '.join(known)}")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{name_or_path} is not valid JSON: {error}") from error
    return ClassTable.from_dict(content, name_or_path)


def _bit_color(index: int) -> tuple[int, int, int]:
    """The PASCAL VOC colour map: bits 0, 1, 2 of each octal digit go to red, green, blue, highest place first."""
    color = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            color[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    return tuple(color)


def _ranges(ids) -> str:
    """3, 4, 5, 9 -> "3-5, 9"."""
    parts: list[list[int]] = []
    for i in sorted(ids):
        if parts and parts[-1][1] == i - 1:
            parts[-1][1] = i
        else:
            parts.append([i, i])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts) or "none"
