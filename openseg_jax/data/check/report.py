"""What a check leaves behind: a table on the terminal, check.json and check.html."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from openseg_jax.data.check import page
from openseg_jax.data.check.faults import ERROR, Fault
from openseg_jax.data.check.scan import Scan
from openseg_jax.data.check.statistics import pixels


@dataclasses.dataclass(frozen=True)
class Report:
    """faults: errors first."""

    scan: Scan
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        """No errors; there may be warnings."""
        return not any(fault.severity == ERROR for fault in self.faults)

    def summary(self) -> str:
        errors = sum(fault.severity == ERROR for fault in self.faults)
        counts = ", ".join(f"{len(samples)} in {split}" for split, samples in self.scan.splits.items())
        read = "headers of all, pixels of some" if self.scan.quick else "all pixels read"
        return f"errors: {errors}, warnings: {len(self.faults) - errors}; samples: {counts}; {read}"

    def print(self, console: Console) -> None:
        """Pixels per class, and the faults with what to do about each."""
        shares = self.shares()
        table = Table("class", *(f"{split}, % of pixels" for split in shares), title=self.scan.classes.title)
        for column in table.columns[1:]:
            column.justify = "right"
        for i, name in enumerate(self.scan.classes.names):
            table.add_row(escape(name), *(f"{100 * share[i]:.3f}" for share in shares.values()))
        console.print(table)
        if self.faults:
            table = Table("", "fault", "count", "what is wrong, and what to do", show_lines=True)
            for fault in self.faults:
                color = "red" if fault.severity == ERROR else "yellow"
                text = f"{escape(fault.message)}\n[dim]{escape(', '.join(fault.examples))}[/]\n-> {escape(fault.fix)}"
                table.add_row(f"[{color}]{fault.severity}[/]", fault.kind, str(fault.count), text)
            console.print(table)
        for fault in self.faults:
            if fault.snippet:  # outside the table, so that it can be copied
                console.print(f"for {fault.kind}:", style="dim")
                console.print(fault.snippet, markup=False, highlight=False, soft_wrap=True)
        console.print(self.summary(), soft_wrap=True)

    def shares(self) -> dict[str, list[float]]:
        """Per split with masks, the share of each class in the labelled pixels."""
        ids = range(len(self.scan.classes))
        return {split: [n[i] / max(n.total(), 1) for i in ids] for split, n in pixels(self.scan).items()}

    def write(self, out: Path) -> None:
        """OUT/check.json and OUT/check.html, a page with overlays that needs no other file."""
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
        out.mkdir(parents=True, exist_ok=True)
        _write(out / "check.json", json.dumps(content, indent=2) + "\n")
        _write(out / "check.html", page.make(self))


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
