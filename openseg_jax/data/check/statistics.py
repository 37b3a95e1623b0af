"""Faults of the classes as a whole: empty classes, rare ones, and an order that differs from the class table."""

from collections import Counter

import numpy as np

from openseg_jax.data.check.faults import ERROR, WARNING, Fault, table_with
from openseg_jax.data.check.ids import ids_by_name
from openseg_jax.data.check.scan import Sample, Scan, total
from openseg_jax.labels.classes import IGNORE, known_tables, load_classes

TINY = 1e-4  # the share of the labelled pixels below which a class is rare
_CLAIM = 0.8  # the share of the regions of a class that must look like another class
_ENOUGH_REGIONS = 8  # how many regions of a class in a split are needed to compare how it looks


def pixels(scan: Scan) -> dict[str, Counter]:
    """Returns the number of labelled pixels of each train id, for each split with masks."""
    found = {split: total(s.mask.labels for s in samples) for split, samples in scan.splits.items()}
    return {split: Counter({i: n for i, n in each.items() if i != IGNORE}) for split, each in found.items() if each}


def uneven_classes(scan: Scan) -> list[Fault]:
    """Finds classes that no split, only some splits or only few pixels have."""
    found = pixels(scan)
    if scan.quick or not found:
        return []
    train, *others = found
    learnt, elsewhere = found[train].keys(), set().union(*(found[split] for split in others))
    possible = {i for i, raw in enumerate(scan.classes.ids) if raw is not None or scan.classes.masks == "colors"}
    tiny = [i for i, n in found[train].items() if n < TINY * found[train].total()]
    move = "move samples with these classes between the splits"
    rows = (
        ("empty_class", WARNING, possible - learnt - elsewhere, found, "classes occur in no mask at all",
         "leave them out of the class table if the net need not know them, since their outputs learn nothing"),
        ("class_not_in_train", ERROR, elsewhere - learnt, others,
         f"classes do not occur in {train}, but elsewhere, so no net can learn them",
         f"{move}, or put their ids into void"),
        ("class_only_in_train", WARNING, learnt - elsewhere if others else (), [train],
         f"classes occur only in {train}, so the mIoU does not measure them", move),
        ("tiny_class", WARNING, tiny, [train],
         f"classes cover less than {TINY:.2%} of the labelled pixels of {train}",
         "check that this is right; class weights or more samples with them help the net"),
    )  # fmt: skip
    faults = []
    for kind, severity, classes, splits, message, fix in rows:
        names = tuple(scan.classes.names[i] for i in sorted(classes))
        if names:
            faults.append(Fault(kind, severity, message, fix, len(names), names[:8], tuple(splits)))
    return faults


def names_in_another_order(scan: Scan) -> list[Fault]:
    """Finds the names and ids of a benchmark where a name has another id than there."""
    classes = scan.classes
    mine = ids_by_name(classes)
    tables = {name: ids_by_name(load_classes(name)) for name in known_tables()}
    for name, theirs in tables.items():
        if mine in tables.values():
            break
        if mine.keys() == theirs.keys() and set(mine.values()) == set(theirs.values()):
            names = tuple(n for n in classes.names if mine[n.casefold()] != theirs[n.casefold()])
            message = f"classes have the names and ids of {name}, but not each name the id that it has there"
            fix = f"if the masks are those of {name}, use its ids"
            snippet = table_with(classes, [theirs[n.casefold()] for n in classes.names], classes.void)
            return [Fault("class_order", WARNING, message, fix, len(names), names[:8], tuple(scan.splits), snippet)]
    return []


def looks_permuted(scan: Scan) -> list[Fault]:
    """Finds splits whose classes look like other classes of the training split, one for one.

    On CamVid (367 and 101 images) it finds 36 of the 55 pairs of classes that can be exchanged in val, all 10 rotations
    of the ids and 199 of 200 random orders. It reports nothing for val as it is, for 200 random splits of all images,
    and for any of the 6 ordered pairs of sequences.
    """
    faults = []
    splits = [split for split, samples in scan.splits.items() if any(s.features for s in samples)]
    train = next(iter(splits), "")
    for split in splits[1:]:
        moved, certain = _moved(_regions(scan.splits[train]), _regions(scan.splits[split]), len(scan.classes))
        pairs = tuple(f"{scan.classes.names[a]} looks like {scan.classes.names[b]}" for a, b in moved)
        message = f"classes of {split} look like other classes of {train}, by colour, place, contrast and size"
        fix = f"look at the overlays of {split} (--out writes them); if they are wrong, "
        fix += f"give its masks the ids of {train}"
        if moved:
            severity = ERROR if certain else WARNING
            faults.append(Fault("class_order", severity, message, fix, len(moved), pairs[:8], (split,)))
    return faults


def _regions(samples: list[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features (n, 7) and train ids (n,) of all regions, each of which is one class in one image."""
    found = [(values, i) for s in samples for i, values in s.features.items()]
    return np.array([values for values, _ in found]), np.array([i for _, i in found])


def _moved(train: tuple, val: tuple, num_classes: int) -> tuple[list[tuple[int, int]], bool]:
    """Returns pairs (class of val, class of train that it looks like), and whether they rule out a coincidence.

    A Gaussian for each class of train says which class each region of val looks like. If splits merely differ, some
    classes are mistaken for a common one. So pairs count only if classes are exchanged in a circle, or if half of all
    classes are each claimed by one other class while their own regions look like neither.
    """
    (features, ids), (val_features, val_ids) = train, val
    distance = np.full((len(val_ids), num_classes), np.inf)
    for c in range(num_classes):
        own = features[ids == c]
        if len(own) >= _ENOUGH_REGIONS:
            covariance = np.cov(own.T) + np.diag(0.01 * features.var(0) + 1e-6)
            off = val_features - own.mean(0)
            distance[:, c] = np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off)
            distance[:, c] += np.linalg.slogdet(covariance)[1]
    if not np.isfinite(distance).any():
        return [], False
    share = np.zeros((num_classes, num_classes))
    np.add.at(share, (val_ids, distance.argmin(1)), 1)
    count = share.sum(1, keepdims=True)
    share /= np.maximum(count, 1)
    comparable = (count[:, 0] >= _ENOUGH_REGIONS) & np.isfinite(distance).any(0)
    claimed = {int(c): int(share[c].argmax()) for c in np.flatnonzero(comparable) if share[c].max() >= _CLAIM}

    others = {a: b for a, b in claimed.items() if a != b}
    circles = others
    while circles.keys() != set(circles.values()):
        circles = {a: b for a, b in circles.items() if a in circles.values() and b in circles}
    lost = np.diag(share) <= 1 - _CLAIM
    arrows = [(a, b) for a, b in others.items() if comparable[b] and lost[b]]
    arrows = [(a, b) for a, b in arrows if sum(b == other for _, other in arrows) == 1]
    return (arrows, True) if len(arrows) >= max(3, comparable.sum() / 2) else (list(circles.items()), False)


FAULTS = (uneven_classes, names_in_another_order, looks_permuted)
