"""What the check finds. A finding of which it is certain is an error, one that is likely or does no harm a warning."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from openseg_jax.data.check.scan import Sample, Scan
from openseg_jax.labels.classes import ClassTable

ERROR, WARNING = "error", "warning"
_EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Fault:
    """kind: a short name, one per function of this package. message: one sentence. count: files, or classes.

    examples: some of them. splits: where it was found. fix: what to do; snippet: for that, an entry of the class table,
    in braces a whole one, or a command.
    """

    kind: str
    severity: str
    message: str
    fix: str
    count: int
    examples: tuple[str, ...]
    splits: tuple[str, ...]
    snippet: str = ""


def of_files(
    scan: Scan, kind: str, message: str, fix: str, files: Iterable[tuple[Sample, Path]], severity=ERROR, snippet=""
) -> list[Fault]:
    """A fault of these files, if there are any."""
    files = list(files)
    examples = tuple(scan.short(path) for _, path in files[:_EXAMPLES])
    splits = tuple(dict.fromkeys(sample.split for sample, _ in files))
    return [Fault(kind, severity, message, fix, len(files), examples, splits, snippet)] if files else []


def table_with(classes: ClassTable, ids: Iterable[int | None], void: Iterable[int]) -> str:
    """The class table with other ids, as the text of a file."""
    content = classes.to_dict()
    rows = [
        {"name": row["name"], "id": i, "color": row["color"]} for row, i in zip(content["classes"], ids, strict=True)
    ]
    return as_text(content | {"void": sorted(void), "classes": rows})


def as_text(table: dict) -> str:
    """JSON with one class per line. YAML files may hold it as well."""
    head = "".join(f" {json.dumps(key)}: {json.dumps(table[key])},\n" for key in table if key != "classes")
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in table["classes"])
    return f'{{{head.strip(" ")} "classes": [\n{rows}\n]}}'
