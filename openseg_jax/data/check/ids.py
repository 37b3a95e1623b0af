"""Faults of what masks say: ids and colours that the class table does not have, and the most likely reason.

Each explanation looks at the ids of a whole split; the first that fits is the fault.
"""

import dataclasses
import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable

from openseg_jax.data.check.faults import ERROR, WARNING, Fault, command, of_masks, table_with
from openseg_jax.data.check.scan import Sample, Scan, blended, total
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import IGNORE, ClassTable, bit_color, known_tables, load_classes, ranges

_ENOUGH_MASKS = 5  # how many masks of a split are needed to explain its ids apart from those of other splits
_MANY_MASKS, _MANY_COUNTS = 10, 4  # how many masks, of how many numbers of ids, show that ids restart in each
_STRAY = 0.01  # the share of the pixels up to which unknown values are likely to be of no use
_SURE_CLASSES = 10  # with so many classes it is no coincidence that the missing one is the first or the last


@dataclasses.dataclass(frozen=True)
class _Explanation:
    """A fault to be; `telling` are the ids by which the files concerned are known."""

    kind: str
    message: str
    fix: str
    telling: set[int]
    snippet: str = ""
    severity: str = ERROR


def wrong_ids(scan: Scan) -> list[Fault]:
    parts = [[s for s in samples if s.mask.ids and not _disagrees(s, scan.classes)] for samples in scan.splits.values()]
    whole = list(itertools.chain(*parts))
    if mixed := _mixed(scan, whole):
        return mixed
    several = (_two_values, _blurred, _spread, _train_ids, _raw_ids, _shifted)
    attempts = [(samples, several) for samples in parts if len(samples) >= _ENOUGH_MASKS]
    for samples, explanations in [(whole, several), *attempts, (whole, [_unknown])]:
        used = total(s.mask.ids for s in samples)
        for explain in explanations:
            if used and (found := explain(used, scan.classes)):
                masks = (s for s in samples if found.telling & s.mask.ids.keys())
                return of_masks(scan, found.kind, found.message, found.fix, masks, found.severity, found.snippet)
    return []


def _illegal(used: Counter, classes: ClassTable) -> set[int]:
    return used.keys() - {*classes.all_ids, *classes.void}


def _two_values(used: Counter, classes: ClassTable) -> _Explanation | None:
    """Explains masks of 0 and 255. If 255 is void, there would be no error, and one class would never occur."""
    if used.keys() != {0, 255} or len(classes) < 2 or 255 in classes.all_ids:
        return None
    message = "masks have only the values 0 and 255: two classes were saved as black and white"
    if len(classes) > 2:
        return _Explanation("binary_mask", message, f"export all {len(classes)} classes as ids", {255})
    fix = "give the second class the id 255 in the class table, and leave void empty"
    ids = [0 if i == 0 else 255 for i in classes.ids] if 0 in classes.ids else (0, 255)
    return _Explanation("binary_mask", message, fix, {255}, table_with(classes, ids, ()))


def _mixed(scan: Scan, samples: list[Sample]) -> list[Fault]:
    """Finds masks of 0 and 255 among masks of 0 and 1, of which one table can read only one kind."""
    kinds, known = _black_and_white(samples), {1, 255} & set(scan.classes.all_ids)
    if len(scan.classes) > 2 or len(known) != 1 or not kinds:
        return []
    right = known.pop()
    wrong = kinds[256 - right]
    message = f"masks have the values 0 and {256 - right}, and the others 0 and {right}: both seem to mean two classes"
    fix = f"bring them to 0 and {right}"
    snippet = command(wrong, f"(a > 0) * {right}", f"{256 - right} in a and set(np.unique(a)) <= {{0, {256 - right}}}")
    # If 255 is void, each may be an image of nothing else, but hardly all of them.
    certain = right == 255 or 255 not in scan.classes.void or len(wrong) >= _ENOUGH_MASKS
    return of_masks(scan, "mixed_binary", message, fix, wrong, ERROR if certain else WARNING, snippet)


def _black_and_white(samples: Iterable[Sample]) -> dict[int, list[Sample]]:
    """Returns the masks of 0 and 1, and those of 0 and 255, by 1 and 255, if there are both and no others."""
    found = [s for s in samples if s.mask.ids.keys() - {0}]
    kinds = {high: [s for s in found if s.mask.ids.keys() <= {0, high}] for high in (1, 255)}
    return kinds if len(kinds[1]) + len(kinds[255]) == len(found) and all(kinds.values()) else {}


def _is_smoothed(used: Counter, few: bool = False) -> bool:
    """Returns whether values look like black and white masks that were smoothed; `few` of other values will do."""
    between = {i: n for i, n in used.items() if 0 < i < 255}
    wide = few or (len(between) >= 3 and max(between) > 128)
    return bool(between) and wide and max(between.values()) < min(used[0], used[255])


def _blurred(used: Counter, classes: ClassTable) -> _Explanation | None:
    illegal = _illegal(used, classes)
    known = sum(used[i] for i in classes.all_ids if 0 < i < 255)
    if not illegal or known > sum(used[i] for i in illegal) or not _is_smoothed(used, few=len(classes) == 2):
        return None
    message = "masks have values between 0 and 255, of which both are frequent, as black and white has when it is "
    message += "smoothed"
    fix = "export the masks again without smoothing; if you resize them, by nearest neighbour"
    return _Explanation("blurred_mask", message, fix, set(used) - {0, 255})


def _spread(used: Counter, classes: ClassTable) -> _Explanation | None:
    """Explains ids that were multiplied to be visible, for example 0, 85, 170."""
    values = [i for i in used if 0 < i < 255]
    step = math.gcd(*values)
    if len(values) < 2 or step < 8 or max(values) // step >= len(classes) or not _illegal(used, classes):
        return None
    message = f"masks have the values 0, {step}, {2 * step} and so on: ids spread over the grey values to be visible"
    fix = "divide the masks by this step, or give the classes the ids that the masks have"
    ids = [step * i if step * i < 256 else None for i in range(len(classes))]
    return _Explanation("spread_ids", message, fix, set(values), table_with(classes, ids, {IGNORE} - set(ids)))


def _train_ids(used: Counter, classes: ClassTable) -> _Explanation | None:
    """Explains positions in the list of classes where the table has other ids."""
    count = len(classes)
    high = [i for i in classes.all_ids if i >= count]
    plain = used.keys() - {IGNORE}
    if len(high) < max(2, count / 3) or not plain <= set(range(count)):
        return None
    if len(plain) < max(2, count / 2) and plain & set(classes.all_ids):
        return None  # a data set with few of the classes, whose ids are low
    message = f"masks have the ids {ranges(plain)}, the positions of the classes (train ids), where "
    message += f"{classes.title} has the ids {ranges(classes.all_ids)}"
    fix = "use the masks with the original ids (*_labelIds.png of Cityscapes), or a class table with these ids"
    return _Explanation("train_ids", message, fix, plain, table_with(classes, range(count), [IGNORE]))


def _raw_ids(used: Counter, classes: ClassTable) -> _Explanation | None:
    """Explains the ids of a benchmark where the table lists its classes with other ids."""
    if not _illegal(used, classes):
        return None
    for name in known_tables():
        known = load_classes(name)
        ids = ids_by_name(known)
        same_names = ids.keys() == ids_by_name(classes).keys()
        if same_names and None not in known.ids and not _illegal(used, known) and not _near(known, classes):
            message = f"masks have the ids {ranges(used)}, which are those of {name}, not those of the class table"
            fix = f"use the built-in table, --config.data.classes={name}, or these ids"
            mine = [ids[n.casefold()] for n in classes.names]
            return _Explanation("raw_ids", message, fix, set(used), table_with(classes, mine, known.void))
    return None


def ids_by_name(classes: ClassTable) -> dict[str, int | None]:
    """Returns the id of each name, which is in lower case."""
    return dict(zip(map(str.casefold, classes.names), classes.ids, strict=True))


def _near(known: ClassTable, classes: ClassTable) -> bool:
    """Returns whether the ids are the same or all shifted by one, which `_shifted` explains better."""
    return any(set(known.all_ids) == {i + step for i in classes.all_ids} for step in (-1, 0, 1))


def _shifted(used: Counter, classes: ClassTable) -> _Explanation | None:
    """Explains ids that are all one too high or one too low."""
    ids, illegal = set(classes.all_ids), _illegal(used, classes)
    for step in (1, -1):
        expected = {i + step for i in ids}
        if not expected <= set(range(256)):
            continue
        beyond, gone = (expected - ids) & used.keys(), ids - expected
        zero_is_void = step == 1 and {0} <= ids & used.keys() and IGNORE not in used and bool(beyond & illegal)
        gone -= {0} if zero_is_void else set()
        if not beyond or gone & used.keys() or not used.keys() <= expected | {0, IGNORE, *classes.void}:
            continue
        present = len(expected & used.keys()) / len(expected)
        certain = bool(illegal) or (IGNORE in used and len(ids) >= _SURE_CLASSES)
        if present < 0.8 or (not illegal - {0, IGNORE} and (present < 1 or len(ids) < 3)):
            continue  # the class at the end merely does not occur
        message = f"masks have the ids {ranges(used)}, where {classes.title} has {ranges(ids)}: all are one too "
        message += "high" if step == 1 else "low"
        fix = "give the classes the ids that the masks have"
        if zero_is_void:
            message += ", if 0 stands for unlabelled pixels"
            fix += "; if 0 is a class, the table lacks the highest id"
        mine = [None if i is None else i + step for i in classes.ids]
        void = {IGNORE, *used, *([0] if step == 1 else [])} - set(mine)
        severity = ERROR if certain else WARNING
        return _Explanation("off_by_one", message, fix, set(used), table_with(classes, mine, void), severity)
    return None


def _unknown(used: Counter, classes: ClassTable) -> _Explanation | None:
    illegal = _illegal(used, classes)
    if not illegal:
        return None
    share = sum(used[i] for i in illegal) / used.total()
    message = f"masks have the ids {ranges(illegal)} ({share:.2%} of the pixels), which {classes.title} does not have"
    fix = "add them to a class, as its id or among its aliases, or to void to ignore them"
    snippet = f'"void": {json.dumps(sorted(illegal | set(classes.void)))}'
    if share > _STRAY:  # whoever copies the snippet would lose what they may want to learn
        fix, snippet = "add them to classes, as ids or among the aliases; only if they mean nothing, to void", ""
    return _Explanation("unknown_id", message, fix, illegal, snippet)


def unknown_colors(scan: Scan) -> list[Fault]:
    ids = {*scan.classes.all_ids, *scan.classes.void}
    masks = [s for s in scan.samples() if s.mask.unknown_colors and not (s.mask.ids and s.mask.ids.keys() <= ids)]
    colors = total(s.mask.unknown_colors for s in masks)
    top = [list(color) for color, _ in colors.most_common(8)]
    message = f"masks have colours that {scan.classes.title} does not have, such as {', '.join(map(str, top[:3]))}"
    fix = "give them to classes, or add them to void_colors to ignore them"
    if len(colors) > 20:
        message += ", and so many that they look blended"
        fix = "export the masks again without smoothing; if you resize them, by nearest neighbour"
    snippet = f'"void_colors": {json.dumps(list(map(list, (*colors, *scan.classes.void_colors))))}'
    area = sum(s.mask.size[0] * s.mask.size[1] for s in scan.samples() if s.mask.colors)
    if len(colors) > 20 or colors.total() > _STRAY * area:
        snippet = ""
    return of_masks(scan, "unknown_color", message, fix, masks, snippet=snippet)


def wrong_palettes(scan: Scan) -> list[Fault]:
    """Finds masks of colours that some tool saved with a palette, with indices in an order of its own."""
    snippet = '"masks": "colors"'
    if masks := [s for s in scan.samples() if _disagrees(s, scan.classes)]:
        message = "palette masks show the colours of other classes than their indices stand for"
        fix = "if the colours are right, read them; if the indices are right, correct the colours of the class table"
        if any(s.mask.mode not in ("", "P", "RGB", "RGBA") for s in scan.samples()):
            fix, snippet = "export them like the others, which have no palette, or correct the colours of the table", ""
        return of_masks(scan, "palette_disagrees", message, fix, masks, snippet=snippet)
    # The class table does not say the colours, but what one colour stands for may differ.
    distinct = [s for s in scan.samples() if len(set(s.mask.index_colors.values())) == len(s.mask.index_colors)]
    indices = defaultdict(set)
    for s in distinct:
        for index, color in s.mask.index_colors.items():
            indices[color].add(index)
    moving = {color for color, found in indices.items() if len(found) > 1}
    masks = [s for s in distinct if len(moving) >= 2 and moving & set(s.mask.index_colors.values())]
    message = "palette masks have the same colours at different indices from file to file, so these may not be ids"
    fix = f"if their colours stand for the classes, put {snippet} and the colours into the class table"
    return of_masks(scan, "palettes_vary", message, fix, masks, WARNING, snippet)


def _disagrees(s: Sample, classes: ClassTable) -> bool:
    chosen = [c for i, c in enumerate(classes.colors) if c != bit_color(i + 1)]  # nobody has chosen the others
    position = {color: classes.colors.index(color) for color in chosen if chosen.count(color) == 1}
    shown = {i: c for i, c in s.mask.index_colors.items() if i not in classes.void}
    matched = [i for i, color in shown.items() if color in position]
    wrong = [i for i in matched if position[shown[i]] != classes.lookup[i]]
    return len(wrong) >= 2 and len(wrong) > len(matched) / 2 and len(matched) >= 0.8 * len(shown)


def draft(scan: Scan) -> tuple[str, str]:
    """Drafts a class table from the masks of a scan without one.

    Returns:
        What the masks contain, in words, and the text of a classes.yaml that only lacks the names of the classes.

    Raises:
        InputError: No mask can be read.
    """
    ids = sorted(total(s.mask.ids for s in scan.samples()))
    colors = total(s.mask.colors for s in scan.samples() if not s.mask.ids)
    if not ids and not colors:
        raise InputError(f"{scan.root} has no readable mask in {', '.join(scan.splits)}")
    if _black_and_white(scan.samples()):
        raise InputError(
            f"some masks of {scan.root} have the values 0 and 1, others 0 and 255, and one class table cannot read "
            "both: bring them to the same values, or write the class table yourself if 255 is void"
        )
    if _is_smoothed(total(s.mask.ids for s in scan.samples())) or (not ids and blended(scan.samples())):
        raise InputError(
            f"the masks of {scan.root} look smoothed, so their values mean no classes: export them again without "
            "smoothing; if you resize them, by nearest neighbour"
        )
    lines = [f"title: {json.dumps(scan.root.name)}"]
    if ids:
        named = [i for i in ids if i != IGNORE] if ids != [0, 255] else ids
        found = f"the ids {', '.join(map(str, ids))}"
        lines += [f"void: {sorted({IGNORE} - set(named))}", "classes:"]
        lines += [f"  - {{name: class {i}, id: {i}, color: {list(bit_color(i + 1))}}}" for i in named]
    else:
        named = [color for color, _ in colors.most_common()]
        found = f"the colours {', '.join(map(str, named[:8]))}{' and others' * (len(named) > 8)}"
        lines += ["masks: colors", "classes:"]
        lines += [f"  - {{name: class {i}, color: {list(color)}}}" for i, color in enumerate(named)]
    return found, "\n".join(lines) + "\n"


def one_class(scan: Scan) -> list[Fault]:
    """Finds class tables with which there is nothing to learn."""
    names = scan.classes.names
    message = "class is all that the table has, so the loss is 0 and the mIoU 100 % whatever a net does"
    fix = "add a class for everything else, such as background"
    return [Fault("one_class", ERROR, message, fix, 1, names, tuple(scan.splits))] if len(names) == 1 else []


def restarting_ids(scan: Scan) -> list[Fault]:
    """Finds masks whose ids count something in each image anew, such as instances."""
    found = [s for s in scan.samples() if s.mask.ids and not s.mask.colors]
    values = [s.mask.ids.keys() - {0, *scan.classes.void} for s in found]
    counts = {len(ids) for ids in values}
    gaps = any(ids != set(range(1, len(ids) + 1)) for ids in values)
    if len(found) < _MANY_MASKS or len(counts) < _MANY_COUNTS or gaps:
        return []
    message = "masks have the ids from 1 to a number that differs from mask to mask, without a gap, as if they counted "
    message += "objects of an image"
    fix = "look at some of them; if an id means another thing in each image, export the classes instead"
    return of_masks(scan, "restarting_ids", message, fix, found, WARNING)


FAULTS = {"ids": (one_class, wrong_ids, wrong_palettes, restarting_ids), "colors": (one_class, unknown_colors)}
