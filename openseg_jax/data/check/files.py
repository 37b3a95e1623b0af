"""Faults of files: missing partners, names, damage, sizes, duplicates, and kinds of image that no mask can be."""

import itertools
import os
from collections.abc import Collection

import numpy as np

from openseg_jax.data.check.faults import ERROR, WARNING, Fault, as_text, command, of_files, of_masks
from openseg_jax.data.check.scan import DEEP_MODES, Sample, Scan, blended, total
from openseg_jax.data.images import IMAGE_SUFFIXES
from openseg_jax.text import one_line


def empty_splits(scan: Scan) -> list[Fault]:
    folder = scan.folders[0]
    message = f"the folder {folder}/ holds no images"
    fix = f"put the images there, as {', '.join(IMAGE_SUFFIXES)}"
    empty = [split for split, samples in scan.splits.items() if not any(sample.images for sample in samples)]
    examples = tuple(f"{split}/{folder}" for split in empty)
    return [Fault("empty_split", ERROR, message, fix, len(empty), examples, tuple(empty))] if empty else []


def without_partner(scan: Scan) -> list[Fault]:
    images = [s for s in scan.samples() if not s.masks and s.split not in scan.unlabelled]
    masks = [s for s in scan.samples() if not s.images]
    lonely = "{}s have no {} of the same name in {}/"
    message, fix = lonely.format("image", "mask", scan.folders[1]), "add the masks, or move these images away"
    stems, endings = {s.images[0].stem for s in images}, set()
    for name in (s.masks[0].stem for s in masks):
        begins = (name[:length] for length in range(len(name) - 1, 0, -1))
        endings.add(name.removeprefix(next((begin for begin in begins if begin in stems), "")))
    if len(endings) == 1 and {f"{stem}{min(endings)}" for stem in stems} >= {s.masks[0].stem for s in masks}:
        # for example masks NAME_mask.png of images NAME.jpg
        fix = f"rename the masks: without {min(endings)!r} at the end they have the names of the images"
    faults = of_files(scan, "image_without_mask", message, fix, ((s, s.images[0]) for s in images))
    message, fix = lonely.format("mask", "image", scan.folders[0]), "add the images, or move these masks away"
    return faults + of_masks(scan, "mask_without_image", message, fix, masks)


def same_names(scan: Scan) -> list[Fault]:
    message = "files of one folder have the same name except for the suffix, so it is not clear which one is meant"
    twice = ((s, file) for s in scan.samples() for files in (s.images, s.masks) if len(files) > 1 for file in files)
    return of_files(scan, "same_name", message, "keep one of each, or rename them", twice)


def other_files(scan: Scan) -> list[Fault]:
    message = "files are neither images of a known kind nor hidden, and are skipped"
    fix = f"convert them if they belong to the data: {', '.join(IMAGE_SUFFIXES)} are read"
    files = ((Sample(split, [], []), file) for split, found in scan.ignored.items() for file in found)
    return of_files(scan, "other_file", message, fix, files, WARNING)


def unreadable_files(scan: Scan) -> list[Fault]:
    images = [(s, s.images[0], s.image.error) for s in scan.samples() if s.image.error]
    masks = [(s, s.masks[0], s.mask.error) for s in scan.samples() if s.mask.error]
    faults, fix = [], "copy or export them again, or move the sample away"
    for what, bad in (("image", images), ("mask", masks)):
        reason = one_line(bad[0][2].replace(f"{scan.root}{os.sep}", "")) if bad else ""
        message = f"{what}s cannot be read: {reason}"
        faults += of_files(scan, f"unreadable_{what}", message, fix, ((s, path) for s, path, _ in bad))
    return faults


def wrong_sizes(scan: Scan) -> list[Fault]:
    differ, turned = [], []
    for s in scan.samples():
        if s.image.size and s.mask.size and s.image.size != s.mask.size:
            (turned if s.image.turned and s.image.size == s.mask.size[::-1] else differ).append(s)
    message = "masks do not have the size of their image"
    fix = "export the masks at the size of the images; if you resize them, by nearest neighbour"
    faults = of_masks(scan, "size_differs", message, fix, differ)
    message = (
        "masks have the sides of their image exchanged: the image has an EXIF orientation and is read upright, as "
        "viewers show it, but the mask was drawn on the pixels as they are stored"
    )
    fix = "turn the masks as the images are; or, if the image is wrong, remove its EXIF orientation"
    return faults + of_masks(scan, "exif_turned", message, fix, turned)


# ---------------------------------------------------------------------------------------------------------------------
# Kinds of image


def jpeg_masks(scan: Scan) -> list[Fault]:
    message = "masks are JPEG, whose compression changes the values, so they mean no classes any more"
    fix = "export the masks again from the annotations, as PNG; converting the JPEG to PNG does not restore them"
    return of_masks(scan, "jpeg_mask", message, fix, (s for s in scan.samples() if s.mask.format in ("JPEG", "MPO")))


def deep_masks(scan: Scan) -> list[Fault]:
    """Finds masks of more than 8 bits, and says what their values allow."""
    deep = _of_mode(scan, DEEP_MODES)
    broken = [s for s in deep if not s.mask.whole]
    negative = [s for s in deep if s.mask.whole and s.mask.lowest < 0]
    high = [s for s in deep if s.mask.whole and s.mask.lowest >= 0 and s.mask.highest > 255]
    fitting = [s for s in deep if s.mask.whole and s.mask.lowest >= 0 and s.mask.highest <= 255]
    save = "save them with 8 bits, which loses nothing"
    lowest = min((s.mask.lowest for s in negative), default=0)
    highest = max((s.mask.highest for s in high), default=0)
    faults = []
    for samples, fix in (
        (broken, "they have values that are no whole numbers, which 8 bits would merge: export ids"),
        (negative, f"their values, down to {lowest:.0f}, fit no id: export them with an id from 0 to 255, in void"),
        (high, f"their values, up to {highest:.0f}, may number instances: export the classes alone"),
        (fitting, save if not scan.quick else f"if all values are whole numbers from 0 to 255, {save}"),
    ):
        message = "masks have 16 bits or more per pixel, but ids are numbers from 0 to 255"
        # Whatever was not read is left as it is.
        snippet = command(samples, "a", "a.ndim == 2 and (a == a.astype(np.uint8)).all()") if samples is fitting else ""
        faults += of_masks(scan, "deep_mask", message, fix, samples, snippet=snippet)
    return faults


def color_masks(scan: Scan) -> list[Fault]:
    """Finds RGB masks where ids are wanted."""
    masks = _of_mode(scan, ("RGB", "RGBA"))
    colors, snippet = total(s.mask.colors for s in masks), ""
    message = "masks are images in colours, but the class table says that the values of masks are ids"
    if colors and all(red == green == blue for red, green, blue in colors):
        message = "masks have three equal channels or more, where ids are one channel"
        equal = "a.ndim == 3 and a.shape[2] > 2 and (a[..., :3] == a[..., :1]).all()"
        fix, snippet = "save one channel", command(masks, "a[..., 0]", equal)
    elif colors and set(colors) <= {*scan.classes.colors, *scan.classes.void_colors}:
        fix, snippet = "say so in the class table, which already has these colours", '"masks": "colors"'
    elif blended(masks):
        message += ", and they have so many colours that they look blended, or like photographs"
        fix = "export the masks again without smoothing, as PNG; if you resize them, by nearest neighbour"
    else:
        fix = "say so in the class table, give every class its colour, and put the colours that are no class into "
        fix += "void_colors; all that were found are listed below, the most frequent first"
        top = [{"name": f"class {i}", "color": list(color)} for i, (color, _) in enumerate(colors.most_common())]
        snippet = as_text({"masks": "colors", "classes": top}) if top else ""
    return of_masks(scan, "color_mask", message, fix, masks, snippet=snippet)


def id_masks(scan: Scan) -> list[Fault]:
    """Finds masks of ids where colours are wanted."""
    ids, masks = {*scan.classes.all_ids, *scan.classes.void}, []
    for s in scan.samples():
        if s.mask.mode in ("L", "1") or (s.mask.unknown_colors and s.mask.ids and s.mask.ids.keys() <= ids):
            masks.append(s)
    message = "masks hold ids, as grey values or as indices into a palette that does not show the classes' colours, "
    message += 'but the class table says "masks": "colors"'
    snippet = '"masks": "ids"' + (', "void_colors": []' if scan.classes.void_colors else "")
    return of_masks(scan, "id_mask", message, "change the class table", masks, snippet=snippet)


def other_modes(scan: Scan) -> list[Fault]:
    known = {"", "1", "L", "P", "RGB", "RGBA", *DEEP_MODES}
    modes = {s.mask.mode for s in scan.samples()} - known
    message = f"masks are images of mode {', '.join(sorted(modes))}, which holds neither ids nor colours alone"
    return of_masks(scan, "other_mode", message, "save them without alpha channel", _of_mode(scan, modes))


def _of_mode(scan: Scan, modes: Collection[str]) -> list[Sample]:
    return [s for s in scan.samples() if s.mask.mode in modes and s.mask.format not in ("JPEG", "MPO")]


# How far the thumbnails of copies may differ, in grey levels. Copies of another size or JPEG quality differ by up to 7
# in one cell and 1 on average, consecutive frames of a moving camera (CamVid, 15 per second) by 27 or more in one cell.
_LARGEST, _MEAN = 8, 1.5
_LEAST_CONTRAST = 5  # the standard deviation of a thumbnail below which images look alike anyway


def duplicates(scan: Scan) -> list[Fault]:
    """Finds images of the training split in other splits, where a net would be tested on what it was trained on."""
    train, *others = [[s for s in samples if _telling(s)] for samples in scan.splits.values()] or [[]]
    digests = {s.image.digest: s for s in train}
    thumbnails = np.array([s.image.thumbnail for s in train])
    coarse = _coarse(thumbnails)
    same, near = [], []
    for s in itertools.chain(*others):
        if s.image.digest in digests:
            same.append((s, digests[s.image.digest]))
            continue
        likely = np.flatnonzero((np.abs(coarse - _coarse(s.image.thumbnail)) <= _LARGEST).all(1))
        off = np.abs(thumbnails[likely].astype(np.int16) - s.image.thumbnail).reshape(len(likely), 32 * 32)
        near += [(s, train[index]) for index in likely[(off.max(1) <= _LARGEST) & (off.mean(1) <= _MEAN)][:1]]
    faults, fix = [], "remove them from one of the two"
    for kind, severity, message, pairs in (
        ("duplicate", ERROR, "images of another split are also in", same),
        ("near_duplicate", WARNING, "images of another split look like copies of images in", near),
    ):
        examples = tuple(f"{scan.short(s.images[0])} = {scan.short(t.images[0])}" for s, t in pairs[:3])
        splits = tuple(dict.fromkeys(s.split for s, _ in pairs))
        if pairs:
            message = f"{message} {next(iter(scan.splits))}"
            faults.append(Fault(kind, severity, message, fix, len(pairs), examples, splits))
    return faults


def _telling(s: Sample) -> bool:
    return bool(s.image.digest) and s.image.thumbnail.std() >= _LEAST_CONTRAST


def _coarse(thumbnails: np.ndarray) -> np.ndarray:
    """Returns the means of 8x8 cells of uint8 (n, 32, 32), float32 (n, 16), which differ no more than the cells do."""
    return thumbnails.reshape(-1, 4, 8, 4, 8).mean((2, 4), dtype=np.float32).reshape(-1, 16)


PARTNERS = (empty_splits, without_partner, same_names, other_files, unreadable_files, wrong_sizes, duplicates)
KINDS = {
    "ids": (jpeg_masks, deep_masks, color_masks, other_modes),
    "colors": (jpeg_masks, deep_masks, id_masks, other_modes),
}
