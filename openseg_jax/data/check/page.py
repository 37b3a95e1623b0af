"""The report as one HTML page: faults, shares of the classes as bars, and samples with their masks over them."""

from __future__ import annotations

import math
from html import escape

import cv2
import numpy as np

from openseg_jax import page, visualize
from openseg_jax.data.check.scan import Sample, Scan
from openseg_jax.data.images import read_image, read_mask
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import IGNORE, ClassTable

_SAMPLES = 6  # per split
_WIDTH = 360  # of an overlay


def make(report) -> str:
    """report: a Report."""
    scan = report.scan
    parts = [f"<h1>{escape(scan.root.name)}: {escape(scan.classes.title)}</h1><p>{escape(report.summary())}</p>"]
    if report.faults:
        parts.append("<h2>Faults</h2><table><tr><th></th><th>fault</th><th>count</th><th>what is wrong</th></tr>")
        parts += map(_row, report.faults)
        parts.append("</table>")
    if shares := report.shares():
        parts.append("<h2>Shares of the classes</h2><p>of the labelled pixels, on a logarithmic scale</p>")
        parts.append(_bars(scan.classes, shares))
    for split, samples in scan.splits.items():
        parts.append(f"<h2>{escape(split)}</h2>")
        whole = [s for s in samples if s.images and s.masks]
        for index in np.linspace(0, len(whole) - 1, min(_SAMPLES, len(whole))).round().astype(int):
            parts.append(_figure(scan, whole[index]))
    return page.document(f"check of {scan.root.name}", parts)


def _row(fault) -> str:
    snippet = f"<pre>{escape(fault.snippet)}</pre>" if fault.snippet else ""
    examples = f"<br><small>{escape(', '.join(fault.examples))}</small>" if fault.examples else ""
    return (
        f'<tr><td class="{fault.severity}">{fault.severity}</td><td>{fault.kind}<br>'
        f"<small>{escape(', '.join(fault.splits))}</small></td><td>{fault.count}</td>"
        f"<td>{escape(fault.message)}{examples}<p>{escape(fault.fix)}</p>{snippet}</td></tr>"
    )


def _bars(classes: ClassTable, shares: dict[str, list[float]]) -> str:
    """One group per class with a bar per split, 0.001 % to 100 %; later splits are paler."""
    step, left, length = 14, 170, 600
    group = step * len(shares) + 8
    rows = []
    for i, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True)):
        rows.append(f'<text x="{left - 8}" y="{i * group + step}" text-anchor="end">{escape(name)}</text>')
        for j, (split, share) in enumerate(shares.items()):
            y, width = i * group + j * step + 3, length * max(0, 1 + math.log10(max(share[i], 1e-9)) / 5)
            rows.append(
                f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{step - 2}" fill="rgb{tuple(color)}" '
                f'stroke="#555" stroke-width=".5" fill-opacity="{1 / (1 + j)}"/>'
                f'<text x="{left + width + 6:.1f}" y="{y + step - 4}">{100 * share[i]:.3g} % {escape(split)}</text>'
            )
    size = f'width="{left + length + 140}" height="{group * len(classes)}"'
    return f'<svg {size} font-size="12" xmlns="http://www.w3.org/2000/svg">{"".join(rows)}</svg>'


def _figure(scan: Scan, sample: Sample) -> str:
    name = scan.short(sample.images[0])
    try:
        image, label = read_image(sample.images[0]), _label(sample, scan.classes)
    except InputError as error:
        return f"<p><small>{escape(name)}: {escape(str(error))}</small></p>"
    size = (_WIDTH, max(1, round(image.shape[0] * _WIDTH / image.shape[1])))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    picture = visualize.side_by_side(image, visualize.overlay(image, label, scan.classes))
    return page.picture(picture, name)


def _label(sample: Sample, classes: ClassTable) -> np.ndarray:
    """Train ids, as far as the class table gives them; black elsewhere."""
    if classes.masks == "colors":
        return classes.encode(read_mask(sample.masks[0], colors=True), sample.masks[0].name)
    label = classes.lookup[read_mask(sample.masks[0])]
    return np.where(label < len(classes), label, np.uint8(IGNORE))
