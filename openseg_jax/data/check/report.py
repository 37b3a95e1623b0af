"""What a check leaves behind: tables on the terminal, check.json, and check.html with overlays of samples."""

import dataclasses
import json
import math
from pathlib import Path

import cv2
import numpy as np
from rich.table import Table
from rich.text import Text

from openseg_jax import page, visualize
from openseg_jax.console import Console
from openseg_jax.data.check.faults import ERROR, Fault
from openseg_jax.data.check.scan import Sample, Scan
from openseg_jax.data.check.statistics import pixels
from openseg_jax.data.images import read_image, read_mask
from openseg_jax.errors import InputError
from openseg_jax.files import write_text
from openseg_jax.labels.classes import IGNORE, ClassTable
from openseg_jax.text import one_line

_SAMPLES = 6  # how many samples of a split the page shows
_WIDTH = 360  # of an overlay


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of a check, with errors before warnings."""

    scan: Scan
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors; there may be warnings."""
        return not any(fault.severity == ERROR for fault in self.faults)

    def summary(self) -> str:
        """Returns the numbers of faults and samples as one line."""
        errors = sum(fault.severity == ERROR for fault in self.faults)
        counts = ", ".join(f"{len(samples)} in {split}" for split, samples in self.scan.splits.items())
        read = "headers of all, pixels of some" if self.scan.quick else "all pixels read"
        return f"errors: {errors}, warnings: {len(self.faults) - errors}; samples: {counts}; {read}"

    def print(self, console: Console) -> None:
        """Prints the shares of the classes, and the faults with what to do about each."""
        shares = self.shares()
        table = Table("class", title=self.scan.classes.title)
        for split in shares:
            table.add_column(f"{split}, share of pixels", justify="right")
        for i, name in enumerate(self.scan.classes.names):
            table.add_row(name, *(f"{share[i]:.3%}" for share in shares.values()))
        console.print(table)
        if self.faults:
            table = Table("", "fault", "count", "what is wrong, and what to do", show_lines=True)
            for fault in self.faults:
                color = "red" if fault.severity == ERROR else "yellow"
                message, examples, fix = map(one_line, (fault.message, ", ".join(fault.examples), fault.fix))
                text = Text.assemble(message, "\n", (examples, "dim"), f"\n-> {fix}")
                table.add_row(Text(fault.severity, color), fault.kind, str(fault.count), text)
            console.print(table)
        for fault in self.faults:
            if fault.snippet:  # it stands outside the table so that it can be copied
                console.print(f"for {fault.kind}:", style="dim")
                console.print(fault.snippet, highlight=False, soft_wrap=True)
        console.print(one_line(self.summary()), soft_wrap=True)

    def shares(self) -> dict[str, list[float]]:
        """Returns the share of each class in the labelled pixels, for each split with masks."""
        ids = range(len(self.scan.classes))
        return {split: [n[i] / max(n.total(), 1) for i in ids] for split, n in pixels(self.scan).items()}

    def write(self, out: Path) -> None:
        """Writes OUT/check.json and OUT/check.html, a page that needs no other file."""
        names = self.scan.classes.names
        content = {
            "root": str(self.scan.root),
            "classes": self.scan.classes.title,
            "quick": self.scan.quick,
            "ok": self.ok,
            "faults": [dataclasses.asdict(fault) for fault in self.faults],
            "samples": {split: len(samples) for split, samples in self.scan.splits.items()},
            "pixels": {
                split: {name: counts[i] for i, name in enumerate(names)} for split, counts in pixels(self.scan).items()
            },
        }
        write_text(out / "check.json", json.dumps(content, indent=2) + "\n")
        write_text(out / "check.html", self._page())

    def _page(self) -> str:
        scan = self.scan
        title = page.plain(f"{scan.root.name}: {scan.classes.title}")
        parts = [f"<h1>{title}</h1><p>{page.plain(self.summary())}</p>"]
        if self.faults:
            parts.append("<h2>Faults</h2><table><tr><th></th><th>fault</th><th>count</th><th>what is wrong</th></tr>")
            parts += map(_row, self.faults)
            parts.append("</table>")
        if shares := self.shares():
            parts.append("<h2>Shares of the classes</h2><p>of the labelled pixels, on a logarithmic scale</p>")
            parts.append(_bars(scan.classes, shares))
        for split, samples in scan.splits.items():
            parts.append(f"<h2>{page.plain(split)}</h2>")
            whole = [s for s in samples if s.images and s.masks]
            for index in np.linspace(0, len(whole) - 1, min(_SAMPLES, len(whole))).round().astype(int):
                parts.append(_figure(scan, whole[index]))
        return page.document(f"check of {scan.root.name}", parts)


def _row(fault: Fault) -> str:
    snippet = f"<pre>{page.plain(fault.snippet)}</pre>" if fault.snippet else ""
    examples = f"<br><small>{page.plain(', '.join(fault.examples))}</small>" if fault.examples else ""
    return (
        f'<tr><td class="{fault.severity}">{fault.severity}</td><td>{fault.kind}<br>'
        f"<small>{page.plain(', '.join(fault.splits))}</small></td><td>{fault.count}</td>"
        f"<td>{page.plain(fault.message)}{examples}<p>{page.plain(fault.fix)}</p>{snippet}</td></tr>"
    )


def _bars(classes: ClassTable, shares: dict[str, list[float]]) -> str:
    """Draws a group per class with a bar per split, from 0.001 % to 100 %; later splits are paler."""
    step, left, length = 14, 170, 600
    group = step * len(shares) + 8
    rows = []
    for i, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True)):
        rows.append(f'<text x="{left - 8}" y="{i * group + step}" text-anchor="end">{page.plain(name)}</text>')
        for j, (split, share) in enumerate(shares.items()):
            y, width = i * group + j * step + 3, length * max(0, 1 + math.log10(max(share[i], 1e-9)) / 5)
            rows.append(
                f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{step - 2}" fill="rgb{tuple(color)}" '
                f'stroke="#555" stroke-width=".5" fill-opacity="{1 / (1 + j)}"/>'
                f'<text x="{left + width + 6:.1f}" y="{y + step - 4}">{share[i]:.3%} {page.plain(split)}</text>'
            )
    size = f'width="{left + length + 140}" height="{group * len(classes)}"'
    return f'<svg {size} font-size="12" xmlns="http://www.w3.org/2000/svg">{"".join(rows)}</svg>'


def _figure(scan: Scan, sample: Sample) -> str:
    name = scan.short(sample.images[0])
    try:
        image, label = read_image(sample.images[0]), _label(sample, scan.classes)
    except InputError as error:
        return f"<p><small>{page.plain(name)}: {page.plain(str(error))}</small></p>"
    size = (_WIDTH, max(1, round(image.shape[0] * _WIDTH / image.shape[1])))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    return page.image(visualize.side_by_side(image, visualize.overlay(image, label, scan.classes)), name)


def _label(sample: Sample, classes: ClassTable) -> np.ndarray:
    """Returns the train ids as far as the class table gives them, and void elsewhere."""
    if classes.masks == "colors":
        return classes.encode(read_mask(sample.masks[0], colors=True), sample.masks[0].name)
    label = classes.lookup[read_mask(sample.masks[0])]
    return np.where(label < len(classes), label, np.uint8(IGNORE))
