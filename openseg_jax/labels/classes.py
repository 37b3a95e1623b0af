"""Class tables: what the values of a data set's masks mean. Small JSON or YAML files; `tables/` has the benchmarks'."""

from __future__ import annotations

import dataclasses
import functools
import json
from importlib import resources
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np
import yaml

from openseg_jax.errors import InputError

IGNORE = 255  # the train id of pixels that do not count
_ILLEGAL = 254  # in lookup tables: a value that the mask must not contain
SUFFIXES = (".json", ".yaml", ".yml")
COLOR_PLACES = np.array([1 << 16, 1 << 8, 1], np.uint32)  # pixels @ COLOR_PLACES is one number for each colour


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """K classes in the order of the logits.

    names, colors: K names and K (red, green, blue).
    ids: the id of each class in masks on disk and in submissions; None where this data set does not label the class.
    aliases: further ids on disk of each class, empty if there are none at all.
    void: ids on disk that are ignored. Any id that is neither is an error.
    flip_pairs: classes, as positions, that exchange names in a mirror, such as left arm and right arm.
    masks: "ids", or "colors" where masks on disk are RGB pictures in the classes' colours; then void_colors are void.
    """

    title: str
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ids: tuple[int | None, ...]
    void: tuple[int, ...]
    aliases: tuple[tuple[int, ...], ...] = ()
    flip_pairs: tuple[tuple[int, int], ...] = ()
    masks: str = "ids"
    void_colors: tuple[tuple[int, int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def all_ids(self) -> list[int]:
        """Every id on disk that stands for a class, aliases included."""
        return [i for i in (*self.ids, *sum(self.aliases, ())) if i is not None]

    def encode(self, mask: np.ndarray, where: str) -> np.ndarray:
        """Mask on disk, uint8 (H, W) or (H, W, 3) -> train ids, uint8 (H, W), 0..K-1 and 255.

        Raises InputError on values that mean nothing; `where` names the mask in it.
        """
        if self.masks == "colors":
            return self._encode_colors(mask, where)
        train_ids = cv2.LUT(mask, self.lookup)
        if cv2.countNonZero(cv2.inRange(train_ids, _ILLEGAL, _ILLEGAL)):
            found = ", ".join(str(i) for i in np.unique(mask[train_ids == _ILLEGAL])[:8])
            raise InputError(
                f"{where} contains the ids {found}, which {self.title} does not have: its classes are the ids "
                f"{_ranges(self.all_ids)}, and {_ranges(self.void)} are ignored"
            )
        return train_ids

    def decode(self, train_ids: np.ndarray) -> np.ndarray:
        """Train ids -> the ids of masks on disk and of submissions, uint8; 255 stays 255."""
        if None in self.ids:
            missing = ", ".join(name for name, i in zip(self.names, self.ids, strict=True) if i is None)
            raise InputError(f"{self.title} has no ids for {missing}, so nothing can be written in its ids")
        raw = np.full(256, IGNORE, np.uint8)
        raw[: len(self)] = self.ids
        return raw[train_ids]

    @functools.cached_property
    def lookup(self) -> np.ndarray:
        """uint8 (256,): from id on disk to train id; 255 where ignored, 254 where illegal."""
        table = np.full(256, _ILLEGAL, np.uint8)
        table[list(self.void)] = IGNORE
        for position, others in enumerate(self.aliases):
            table[list(others)] = position
        for position, i in enumerate(self.ids):
            if i is not None:
                table[i] = position
        return table

    def _encode_colors(self, mask: np.ndarray, where: str) -> np.ndarray:
        colors = np.array([*self.colors, *self.void_colors], np.uint32) @ COLOR_PLACES
        train_ids = np.array([*range(len(self)), *[IGNORE] * len(self.void_colors)], np.uint8)
        order = np.argsort(colors)
        found = mask.astype(np.uint32) @ COLOR_PLACES
        places = order[np.searchsorted(colors, found, sorter=order).clip(max=len(colors) - 1)]
        unknown = colors[places] != found
        if unknown.any():
            examples = ", ".join(str(tuple(map(int, color))) for color in np.unique(mask[unknown], axis=0)[:4])
            raise InputError(
                f"{where} contains the colours {examples}, which {self.title} does not have: add them to its classes, "
                "or to void_colors to ignore them"
            )
        return train_ids[places]

    def to_dict(self) -> dict:
        """In the form of the files."""
        rows = []
        for position, (name, i, color) in enumerate(zip(self.names, self.ids, self.colors, strict=True)):
            row = {"name": name, "id": i, "color": list(color)}
            rows.append(row | ({"aliases": list(self.aliases[position])} if self.aliases else {}))
        pairs = [[self.names[a], self.names[b]] for a, b in self.flip_pairs]
        return {
            "title": self.title,
            "void": list(self.void),
            **({"flip_pairs": pairs} if pairs else {}),
            **({"masks": self.masks, "void_colors": list(map(list, self.void_colors))} if self.masks != "ids" else {}),
            "classes": rows,
        }

    @classmethod
    def from_dict(cls, content: dict, where: str) -> ClassTable:
        """Raises InputError on anything incomplete or contradictory; `where` names the source in it."""
        rows = content.get("classes") if isinstance(content, dict) else None
        rows = [{"name": row} if isinstance(row, str) else row for row in rows or ()]
        if not rows or not all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows):
            raise InputError(f'{where} needs a list "classes" of names, or of objects with a "name" each')
        names = tuple(row["name"] for row in rows)
        if len(set(names)) != len(names):
            raise InputError(f"{where}: every class needs a name of its own, found {list(names)}")
        ids = tuple(row.get("id", position) for position, row in enumerate(rows))
        aliases = tuple(tuple(row.get("aliases", ())) for row in rows)
        labelled = [i for i in (*ids, *sum(aliases, ())) if i is not None]
        void = content.get("void", [IGNORE])
        if void == "others":
            void = [i for i in range(256) if i not in labelled]
        every = [*labelled, *void]
        if not all(isinstance(i, int) and 0 <= i <= 255 for i in every):
            raise InputError(f"{where}: ids are whole numbers from 0 to 255, found {every}")
        if len(set(every)) != len(every) or len(rows) > _ILLEGAL:
            raise InputError(f"{where}: every id may stand for one class or for void only, found {every}")
        colors = tuple(tuple(row.get("color", bit_color(position + 1))) for position, row in enumerate(rows))
        void_colors = tuple(map(tuple, content.get("void_colors", ())))
        masks = content.get("masks", "ids")
        for color in (*colors, *void_colors):
            if len(color) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in color):
                raise InputError(f"{where}: a colour is red, green and blue from 0 to 255, found {list(color)}")
        if masks not in ("ids", "colors"):
            raise InputError(f'{where}: "masks" must be "ids" or "colors", found {masks!r}')
        if masks == "colors" and len({*colors, *void_colors}) != len(colors) + len(void_colors):
            raise InputError(f"{where}: masks of colours need a colour of its own for every class")
        pairs = content.get("flip_pairs", ())
        unknown = {name for pair in pairs for name in pair} - set(names)
        if unknown or any(len(pair) != 2 for pair in pairs):
            raise InputError(f"{where}: flip_pairs are pairs of class names, found {pairs}")
        return cls(
            content.get("title", where),
            names,
            colors,
            ids,
            tuple(void),
            aliases if any(aliases) else (),
            tuple((names.index(a), names.index(b)) for a, b in pairs),
            masks,
            void_colors,
        )


@dataclasses.dataclass(frozen=True)
class About:
    """What else is known of a benchmark.

    home, licence: its page and a note on its licence. download: which files a user gets there.
    splits: the official number of samples of each split. citation: BibTeX.
    """

    home: str
    licence: str
    download: str
    splits: dict[str, int]
    citation: str


def to_labels(train_ids):
    """uint8 train ids, 255 for void -> int32 with -1 for void, as nets that are told labels want them."""
    return jnp.where(train_ids == IGNORE, -1, train_ids.astype(jnp.int32))


def known_tables() -> list[str]:
    """The names of the tables that come along."""
    return sorted(file.name.removesuffix(".json") for file in _tables().iterdir() if file.name.endswith(".json"))


def load_classes(name_or_path: str) -> ClassTable:
    """A table of `tables/` by name, or a JSON or YAML file of the same form by path."""
    return ClassTable.from_dict(_read(name_or_path), name_or_path)


def load_about(name: str) -> About:
    """What is known of a benchmark of `tables/`."""
    content = _read(name)
    return About(**{field.name: content[field.name] for field in dataclasses.fields(About)})


def classes_beside(root: Path) -> Path | None:
    """The class table that lies with the data: ROOT/classes.json, .yaml or .yml.

    Raises InputError if there are several. An empty file is none: `check ROOT > ROOT/classes.yaml` makes one before
    it starts.
    """
    candidates = [root / f"classes{suffix}" for suffix in SUFFIXES]
    found = [path for path in candidates if path.is_file() and path.stat().st_size]
    if len(found) > 1:
        raise InputError(f"{root} holds {' and '.join(path.name for path in found)}: keep one class table")
    return found[0] if found else None


def _read(name_or_path: str) -> dict:
    path = Path(name_or_path).expanduser()
    if name_or_path in known_tables():
        text = _tables().joinpath(f"{name_or_path}.json").read_text(encoding="utf-8")
    elif path.is_file() and path.suffix in SUFFIXES:
        text = path.read_text(encoding="utf-8")
    else:
        raise InputError(
            f"there is no class table {name_or_path!r}: give a JSON or YAML file, or one of {', '.join(known_tables())}"
        )
    if path.suffix in (".yaml", ".yml"):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"{name_or_path} is not valid YAML: {error}") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{name_or_path} is not valid JSON: {error}") from error


def _tables():
    return resources.files(__package__).joinpath("tables")


def bit_color(index: int) -> tuple[int, int, int]:
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
