"""The page on a refinement: numbers, and images of the boundaries, directions and changes where most changed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from openseg_jax import page
from openseg_jax.data.images import read_image
from openseg_jax.files import write_text
from openseg_jax.labels.classes import ClassTable
from openseg_jax.segfix.refinement import Refined
from openseg_jax.visualize import side_by_side

_TITLE = "Label maps refined by SegFix"
_BOUNDARY, _ARROW, _CHANGED = (255, 140, 0), (255, 255, 255), (255, 0, 200)  # RGB


def write_page(
    out: Path, facts: dict[str, object], most: Sequence[Refined], images: Mapping[str, Path], classes: ClassTable | None
) -> None:
    """Writes OUT/report.html.

    facts: What to say about the whole, by name. most: The label maps to show, whose keys are the names of their images.
    classes: Give the colours; without them, the maps' own palettes do.
    """
    parts = [
        f"<h1>{_TITLE}</h1>",
        page.table(("", ""), facts.items()),
        "<h2>Where most changed</h2><p>For each map, the window in which most pixels changed: labels before and after "
        "are over the image, and where they differ is pink.</p>",
    ]
    parts += [_shown(refined, images[refined.key], classes) for refined in most]
    write_text(out / "report.html", page.document(_TITLE, parts))


def direction_field(image: np.ndarray, offsets: np.ndarray, *, every: int = 6, enlarge: int = 5) -> np.ndarray:
    """Draws the boundary of an image, uint8 (H, W, 3) RGB, in orange, with arrows in the direction of the offsets.

    offsets: int (H, W, 2), (down, right), 0 off boundaries. every: Draws an arrow, nearly this long, at every so many
    boundary pixels of a row and of a column. enlarge: Draws each pixel as a square of this side.
    """
    boundary = (offsets != 0).any(-1)
    drawn = _tinted(image, boundary, _BOUNDARY, 0.45).repeat(enlarge, 0).repeat(enlarge, 1)
    for y, x in np.argwhere(boundary[every // 2 :: every, every // 2 :: every]) * every + every // 2:
        step = offsets[y, x] / np.abs(offsets[y, x]).max() * (0.8 * every)
        start, end = (((np.array([x, y]) + half + 0.5) * enlarge).astype(int) for half in (0, step[::-1]))
        cv2.arrowedLine(drawn, start.tolist(), end.tolist(), _ARROW, 1, cv2.LINE_AA, tipLength=0.35)
    return drawn


def changes(
    image: np.ndarray, before: np.ndarray, after: np.ndarray, colors: np.ndarray, *, enlarge: int = 5
) -> np.ndarray:
    """Draws three images in a row, uint8 RGB: labels before, labels after, and in pink the pixels that differ.

    image: uint8 (H, W, 3) RGB. before, after: int (H, W), rows of `colors`, uint8 (K, 3) RGB. enlarge: Draws each pixel
    as a square of this side.
    """
    labelled = [_mixed(image, colors[ids], 0.6) for ids in (before, after)]
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1)
    difference = _tinted(grey, before != after, _CHANGED, 1)
    return side_by_side(*(each.repeat(enlarge, 0).repeat(enlarge, 1) for each in (*labelled, difference)))


def most_changed_window(changed: np.ndarray, size: tuple[int, int] = (64, 96)) -> tuple[slice, slice]:
    """Returns rows and columns of the window of this (height, width) in which most of a mask, (H, W), is set."""
    height, width = map(min, size, changed.shape)
    sums = cv2.integral(changed.astype(np.uint8))
    counts = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    y, x = map(int, np.unravel_index(counts.argmax(), counts.shape))
    return slice(y, y + height), slice(x, x + width)


def _shown(refined: Refined, image: Path, classes: ClassTable | None) -> str:
    before, after = refined.before.labels, refined.labels
    window = most_changed_window(before != after)
    part = read_image(image)[window]
    ids, (old, new) = np.unique(np.stack([before[window], after[window]]), return_inverse=True)
    top, left = (side.start for side in window)
    share = page.percent(refined.changed / after.size)
    title = f"{refined.key}: {share} % of the pixels changed; from row {top}, column {left}"
    field = page.image(direction_field(part, refined.before.offsets[window]), "boundary, and the direction off it")
    row = page.image(changes(part, old, new, refined.before.source.colors(ids, classes)), "before, after, what changed")
    return f"<h3>{page.plain(title)}</h3>{field}{row}"


def _tinted(image: np.ndarray, mask: np.ndarray, color: tuple[int, int, int], opacity: float) -> np.ndarray:
    return np.where(mask[..., None], _mixed(image, np.array(color), opacity), image)


def _mixed(image: np.ndarray, colors: np.ndarray, opacity: float) -> np.ndarray:
    return (image * (1 - opacity) + colors * opacity).astype(np.uint8)
