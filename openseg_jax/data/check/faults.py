"""What the check finds: an error if it is certain, a warning if it is only likely or does no harm."""

import dataclasses
import json
import shlex
from collections.abc import Iterable
from pathlib import Path

from openseg_jax.data.check.scan import Sample, Scan
from openseg_jax.labels.classes import ClassTable

ERROR, WARNING = "error", "warning"
_EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a data set."""

    kind: str  # a short name
    severity: str
    message: str  # what is wrong, as one sentence
    fix: str  # what to do
    count: int  # of files or classes
    examples: tuple[str, ...]
    splits: tuple[str, ...]
    snippet: str = ""  # what the fix needs: an entry of the class table, a whole table (in braces), or a command


def of_files(
    scan: Scan, kind: str, message: str, fix: str, files: Iterable[tuple[Sample, Path]], severity=ERROR, snippet=""
) -> list[Fault]:
    """Returns one fault about these files, or none if there are no files."""
    files = list(files)
    examples = tuple(scan.short(path) for _, path in files[:_EXAMPLES])
    splits = tuple(dict.fromkeys(sample.split for sample, _ in files))
    return [Fault(kind, severity, message, fix, len(files), examples, splits, snippet)] if files else []


def of_masks(
    scan: Scan, kind: str, message: str, fix: str, samples: Iterable[Sample], severity=ERROR, snippet=""
) -> list[Fault]:
    """Returns one fault about the masks of these samples, or none if there are no samples."""
    return of_files(scan, kind, message, fix, ((s, s.masks[0]) for s in samples), severity, snippet)


def command(samples: Iterable[Sample], value: str, condition: str) -> str:
    """Returns a command that saves the masks `a`, of the folders of these samples, as `value` where `condition` holds.

    The condition is tried on every file, since these folders may hold masks that are right as they are.
    """
    files = [s.masks[0] for s in samples]
    suffixes = json.dumps(sorted({file.suffix for file in files}))
    program = (
        "import sys, numpy as np; from pathlib import Path; from PIL import Image; "
        f"[Image.fromarray(({value}).astype(np.uint8)).save(f) for d in sys.argv[1:] for f in Path(d).iterdir() "
        f'if f.suffix in {suffixes} and f.name[0] != "." for a in [np.asarray(Image.open(f))] if {condition}]'
    )
    return shlex.join(["python", "-c", program, *sorted({str(file.parent) for file in files})])


def table_with(classes: ClassTable, ids: Iterable[int | None], void: Iterable[int]) -> str:
    """Returns the class table with other ids as the text of a file."""
    return as_text(dataclasses.replace(classes, ids=tuple(ids), void=tuple(sorted(void)), aliases=()).to_dict())


def as_text(table: dict) -> str:
    """Formats a class table as JSON, which is valid YAML too, with one class per line, as text that can be printed."""
    head = "".join(f" {json.dumps(key)}: {json.dumps(table[key])},\n" for key in table if key != "classes")
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in table["classes"])
    text = f'{{{head.strip(" ")} "classes": [\n{rows}\n]}}'
    return text.encode(errors="backslashreplace").decode()
