"""Class tables, which say what the values of a data set's masks mean.

They are small JSON or YAML files. `tables/` holds those of the benchmarks.
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np

from openseg_jax.errors import InputError
from openseg_jax.labels.content import checked, clean
from openseg_jax.trees import read_tree

IGNORE = 255  # the train id of pixels that do not count
_ILLEGAL = 254  # marks values in lookup tables that a mask must not contain
_TABLES = resources.files(__package__).joinpath("tables")
SUFFIXES = (".json", ".yaml", ".yml")
# The weights of classes that published recipes train with, by class table.
CLASS_WEIGHTS = {
    "cityscapes": (
        0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023,
        0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
    ),
}  # fmt: skip
COLOR_PLACES = np.array([1 << 16, 1 << 8, 1], np.uint32)  # pixels @ COLOR_PLACES gives each colour one number


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """K classes in the order of the logits.

    Attributes:
        title: The name of the data set in messages.
        names: The K names.
        colors: K colours (red, green, blue), 0 to 255.
        ids: The id of each class in masks on disk and in submissions; None if the data set does not label the class.
        void: Ids on disk that are ignored. Any id that is neither a class nor void is an error.
        aliases: Further ids on disk of each class; empty if no class has any.
        flip_pairs: Pairs of class positions that exchange names in a mirror, for example left arm and right arm.
        masks: "ids", or "colors" if masks on disk are RGB images in the colours of the classes.
        void_colors: Colours that are ignored in masks of colours.
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
        """Converts a mask on disk, which errors call `where`, to train ids.

        Args:
            mask: uint8 (H, W) of ids, or uint8 (H, W, 3) of colours.

        Returns:
            uint8 (H, W) with values 0 to K-1, and 255 where the mask is void.

        Raises:
            InputError: The mask contains an id or a colour that the table does not have.
        """
        if self.masks == "colors":
            return self._encode_colors(mask, where)
        train_ids = cv2.LUT(mask, self.lookup)
        if cv2.countNonZero(cv2.inRange(train_ids, _ILLEGAL, _ILLEGAL)):
            found = ", ".join(str(i) for i in np.unique(mask[train_ids == _ILLEGAL])[:8])
            raise InputError(
                f"{where} contains the ids {found}, which {self.title} does not have: its classes are the ids "
                f"{ranges(self.all_ids)}, and {ranges(self.void)} are ignored"
            )
        return train_ids

    def decode(self, train_ids: np.ndarray) -> np.ndarray:
        """Converts uint8 train ids to the ids of masks on disk and of submissions; 255 stays 255."""
        if None in self.ids:
            missing = ", ".join(name for name, i in zip(self.names, self.ids, strict=True) if i is None)
            raise InputError(f"{self.title} has no ids for {missing}, so nothing can be written in its ids")
        raw = np.full(256, IGNORE, np.uint8)
        raw[: len(self)] = self.ids
        return raw[train_ids]

    @functools.cached_property
    def lookup(self) -> np.ndarray:
        """uint8 (256,): the train id of each id on disk, 255 for void and 254 for an illegal id."""
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

    def places(self, names: Sequence[str]) -> list[int]:
        """Returns the places of some of the classes; raises InputError if a name is none, or if they are all."""
        if unknown := [name for name in names if name not in self.names]:
            raise InputError(f"{self.title} has no class {unknown[0]!r}; its classes are {', '.join(self.names)}")
        if names and {*names} == {*self.names}:
            raise InputError(f"all classes of {self.title} are named, and one must remain")
        return [self.names.index(name) for name in names]

    def reordered(self, order: Sequence[int]) -> "ClassTable":
        """Returns the same classes in another order: the class at each place is the one that `order` names."""
        if list(order) == list(range(len(self))):
            return self
        names, colors, ids = (tuple(values[i] for i in order) for values in (self.names, self.colors, self.ids))
        aliases = tuple(self.aliases[i] for i in order) if self.aliases else ()
        pairs = tuple((order.index(a), order.index(b)) for a, b in self.flip_pairs)
        return dataclasses.replace(self, names=names, colors=colors, ids=ids, aliases=aliases, flip_pairs=pairs)

    def to_dict(self) -> dict:
        """Returns the content of a class table file."""
        rows = []
        for position, (name, i, color) in enumerate(zip(self.names, self.ids, self.colors, strict=True)):
            rows.append({"name": name, "id": i, "color": list(color)})
            if self.aliases:
                rows[-1]["aliases"] = list(self.aliases[position])
        pairs = [[self.names[a], self.names[b]] for a, b in self.flip_pairs]
        content = {"title": self.title, "void": list(self.void)}
        if pairs:
            content["flip_pairs"] = pairs
        if self.masks != "ids":
            content |= {"masks": self.masks, "void_colors": list(map(list, self.void_colors))}
        return content | {"classes": rows}

    @classmethod
    def from_dict(cls, content: dict, where: str) -> "ClassTable":
        """Builds a table from the content of a file; raises InputError, which names it `where`, on contradictions."""
        content = checked(content, where)
        rows, void, masks = content["classes"], content.get("void", [IGNORE]), content.get("masks", "ids")
        names = [row["name"] for row in rows]
        ids = tuple(row.get("id", position) for position, row in enumerate(rows))
        aliases = tuple(tuple(row.get("aliases", ())) for row in rows)
        if void == "others":
            void = [i for i in range(256) if i not in (*ids, *sum(aliases, ()))]
        colors = tuple(tuple(row.get("color", bit_color(position + 1))) for position, row in enumerate(rows))
        void_colors = tuple(map(tuple, content.get("void_colors", ())))
        if masks == "colors" and len({*colors, *void_colors}) != len(colors) + len(void_colors):
            raise InputError(f"{where}: masks of colours need a distinct colour for every class")
        pairs = tuple((names.index(a), names.index(b)) for a, b in content.get("flip_pairs", ()))
        title, aliases = content.get("title", clean(where)), aliases if any(aliases) else ()
        return cls(title, tuple(names), colors, ids, tuple(void), aliases, pairs, masks, void_colors)


@dataclasses.dataclass(frozen=True)
class About:
    """What a user needs to know about a benchmark.

    Attributes:
        home: The URL of its home page.
        licence: A note on its licence.
        download: Which files to download.
        splits: The official number of samples of each split.
        citation: BibTeX entries.
    """

    home: str
    licence: str
    download: str
    splits: dict[str, int]
    citation: str


def to_labels(train_ids):
    """Converts uint8 train ids with 255 for void to int32 labels with -1 for void, which losses and heads take."""
    return jnp.where(train_ids == IGNORE, -1, train_ids.astype(jnp.int32))


def known_tables() -> list[str]:
    """Returns the names of the built-in tables."""
    return sorted(file.name.removesuffix(".json") for file in _TABLES.iterdir() if file.name.endswith(".json"))


def load_classes(name_or_path: str) -> ClassTable:
    """Loads a built-in table by name, or a JSON or YAML file of the same form by path."""
    return ClassTable.from_dict(_read(name_or_path), name_or_path)


def load_about(name: str) -> About:
    """Loads what is known about a benchmark of the built-in tables."""
    content = _read(name)
    return About(**{field.name: content[field.name] for field in dataclasses.fields(About)})


def classes_beside(root: Path) -> Path | None:
    """Returns the path of the class table beside the data, ROOT/classes.json, .yaml or .yml, or None.

    An empty file does not count, because `openseg data check ROOT > ROOT/classes.yaml` creates one before it starts.
    Raises InputError if there are several.
    """
    candidates = [root / f"classes{suffix}" for suffix in SUFFIXES]
    found = [path for path in candidates if path.is_file() and path.stat().st_size]
    if len(found) > 1:
        raise InputError(f"{root} holds {' and '.join(path.name for path in found)}: keep only one class table")
    return found[0] if found else None


def _read(name_or_path: str) -> dict:
    if name_or_path in known_tables():
        return json.loads(_TABLES.joinpath(f"{name_or_path}.json").read_text(encoding="utf-8"))
    try:
        path = Path(name_or_path).expanduser()
        is_table = path.suffix in SUFFIXES and path.is_file()
    except (OSError, RuntimeError, ValueError):  # what the system takes for no path at all
        is_table = False
    if not is_table:
        raise InputError(
            f"there is no class table {name_or_path!r}: give a JSON or YAML file, or one of {', '.join(known_tables())}"
        )
    return read_tree(path)


def bit_color(index: int) -> tuple[int, int, int]:
    """Returns a colour of the PASCAL VOC colour map.

    Bits 0, 1 and 2 of each octal digit of the index go to red, green and blue, the highest bit first.
    """
    color = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            color[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    return tuple(color)


def ranges(ids) -> str:
    """Formats ids as ranges: 3, 4, 5, 9 becomes "3-5, 9"."""
    ids = sorted(set(ids))
    starts = [i for i in ids if i - 1 not in ids]
    ends = [i for i in ids if i + 1 not in ids]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True)) or "none"
