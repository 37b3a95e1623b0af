"""The check of what a class table file holds: every key, its type, and what the keys say about each other."""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from openseg_jax.errors import InputError
from openseg_jax.text import short

MOST_CLASSES = 254  # of the 256 values of a byte, one is for void and one for what a mask must not contain
_LONGEST_NAME = 200  # characters
_KEYS = ("title", "classes", "void", "flip_pairs", "masks", "void_colors")
_ABOUT = ("home", "licence", "download", "splits", "citation")  # of the tables of benchmarks
_ROW = ("name", "id", "color", "aliases")
_DIRECTIONS = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}  # they turn the text around a name


def checked(content: Any, where: str) -> dict[str, Any]:
    """Returns the keys of a class table, of which "classes" is a list of dictionaries with names.

    Keys that are left out stay out.

    Raises:
        InputError: With the first thing that is wrong; it names the file as `where`.
    """
    rows = content.get("classes") if isinstance(content, dict) else None
    rows = [{"name": row} if isinstance(row, str) else row for row in rows] if isinstance(rows, (list, tuple)) else []
    if not rows or not all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows):
        raise InputError(
            f'{where} needs a list "classes" of names, or of objects with a "name" each; names such as no, null or 1 '
            "are strings only in quotes"
        )
    _known(content, (*_KEYS, *_ABOUT), where, "a class table")
    for row in rows:
        _name(row["name"], where, "the name of a class")
        _known(row, _ROW, where, f"the class {row['name']!r}")
    names = [row["name"] for row in rows]
    if twice := _twice(names):
        raise InputError(f"{where}: every class needs its own name, found {short(twice[0])} twice")
    if len(rows) > MOST_CLASSES:
        raise InputError(f"{where}: a table has at most {MOST_CLASSES} classes, found {len(rows)}")
    if "title" in content:
        _name(content["title"], where, "title")
    _check_ids(content, rows, where)
    _check_colors(content, rows, where)
    _check_pairs(content.get("flip_pairs", ()), names, where)
    return content | {"classes": rows}


def clean(title: str) -> str:
    """Returns a text that may be the title of a table."""
    text = "".join(c if _shows(c) else "?" for c in title).strip()[-_LONGEST_NAME:].strip()
    return text or "classes"


def _check_ids(content: dict, rows: list[dict], where: str) -> None:
    own = [row.get("id", position) for position, row in enumerate(rows)]
    lists = [row.get("aliases", ()) for row in rows]
    void = content.get("void", (255,))
    void = () if void == "others" else void  # all that are free
    for what, ids in (*(("aliases", ids) for ids in lists), ("void", void)):
        if not isinstance(ids, (list, tuple)):
            raise InputError(f"{where}: {what} must be a list of ids, found {short(ids)}")
    ids = [i for i in own if i is not None] + [i for ids in lists for i in ids]
    for i in (*ids, *void):
        if not _is_byte(i):
            raise InputError(f"{where}: ids are whole numbers from 0 to 255, found {short(i)}")
    if not ids:
        raise InputError(f"{where}: none of the classes has an id, found null for each")
    if twice := _twice([*ids, *void]):
        raise InputError(f"{where}: every id may stand for only one class or for void, found {twice[0]} twice")


def _check_colors(content: dict, rows: list[dict], where: str) -> None:
    masks, void = content.get("masks", "ids"), content.get("void_colors", ())
    if masks not in ("ids", "colors"):
        raise InputError(f'{where}: "masks" must be "ids" or "colors", found {short(masks)}')
    if not isinstance(void, (list, tuple)):
        raise InputError(f"{where}: void_colors must be a list of colours, found {short(void)}")
    if void and masks == "ids":
        raise InputError(f'{where}: void_colors are for "masks": "colors", found masks of ids')
    for color in (*(row["color"] for row in rows if "color" in row), *void):
        if not isinstance(color, (list, tuple)) or len(color) != 3 or not all(map(_is_byte, color)):
            raise InputError(f"{where}: a colour is red, green and blue from 0 to 255, found {short(color)}")


def _check_pairs(pairs: Any, names: list[str], where: str) -> None:
    wanted = f"{where}: flip_pairs are pairs of class names, each in one pair only"
    if not isinstance(pairs, (list, tuple)):
        raise InputError(f"{wanted}, found {short(pairs)}")
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(name in names for name in pair):
            raise InputError(f"{wanted}, found {short(pair)}")
    if twice := _twice(name for pair in pairs for name in pair):
        raise InputError(f"{wanted}, found {short(twice[0])} twice")


def _known(found: dict, known: Collection[str], where: str, what: str) -> None:
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}"
            raise InputError(f"{where}: {what} has no key {short(key)}; {hint}")


def _name(value: Any, where: str, what: str) -> None:
    if not isinstance(value, str):
        raise InputError(f"{where}: {what} must be a string, found {short(value)}: put it in quotes")
    is_visible = any(c.isprintable() and not c.isspace() for c in value)
    if not is_visible or value != value.strip() or len(value) > _LONGEST_NAME or not all(map(_shows, value)):
        raise InputError(
            f"{where}: {what} must be a text of 1 to {_LONGEST_NAME} characters on one line, without spaces around it "
            f"and without control characters, found {short(value)}"
        )


def _shows(c: str) -> bool:
    return unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") and c not in _DIRECTIONS


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _twice(values: Iterable) -> list:
    return [value for value, count in Counter(values).items() if count > 1]
