"""A page on a refinement: numbers, and where it changed most."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from openseg_jax import page
from openseg_jax.data.images import read_image
from openseg_jax.labels.classes import ClassTable
from openseg_jax.segfix.label_files import read_labels
from openseg_jax.segfix.pictures import changes, direction_field, most_changed_window
from openseg_jax.segfix.refine_files import Change, prepared

_TITLE = "Label maps refined by SegFix"


def write_page(
    out: Path,
    facts: Mapping[str, object],
    most: Sequence[Change],
    files: Sequence[Path],
    images: Mapping[str, Path],
    classes: ClassTable | None,
) -> None:
    """OUT/report.html. facts: what to say about the whole. files: label maps, refined ones in OUT under their names.

    images: pictures of the same sizes, by the names of the maps.
    """
    parts = [f"<h1>{escape(_TITLE)}</h1>", page.table(("", ""), facts.items())]
    parts.append(
        "<h2>Where most changed</h2><p>Of each map the window in which most pixels changed: labels before and after "
        "are over the picture, and where they differ is pink.</p>"
    )
    for change in most:
        file = files[change.index]
        parts.append(_shown(change, file, out / file.name, images[file.stem], classes))
    path = out / "report.html"
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(page.document(_TITLE, parts), encoding="utf-8")
    os.replace(temporary, path)


def _shown(change: Change, file: Path, refined: Path, image: Path, classes: ClassTable | None) -> str:
    labels = prepared(file, classes)
    after = read_labels(refined).ids
    window = most_changed_window(labels.ids != after)
    picture = read_image(image)[window]
    ids, places = np.unique(np.stack([labels.ids[window], after[window]]), return_inverse=True)
    top, left = (side.start for side in window)
    name = f"{file.stem}: {100 * change.share:.2f} % of the pixels changed; from row {top}, column {left}"
    field = page.picture(direction_field(picture, change.offsets[window]), "boundary, and the way off it")
    row = page.picture(changes(picture, *places, labels.colors(ids, classes)), "before, after, what changed")
    return f"<h3>{escape(name)}</h3>{field}{row}"
