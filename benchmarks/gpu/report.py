"""The section of docs/benchmarks.md about a GPU, written from results."""

from pathlib import Path

from benchmarks.gpu.jobs import JOBS
from openseg_jax.errors import InputError
from openseg_jax.files import read_text, write_text

BEGIN, END = "<!-- begin of what python -m benchmarks.gpu --report writes -->", "<!-- end -->"
_WIDEST = 90  # characters of a cell: names of kernels are long


def write(page: Path, records: dict[str, dict]) -> None:
    """Replaces what stands between the two marks of a page. Raises InputError if they are not there."""
    before, begin, rest = read_text(page).partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(f"{page} does not have the lines {BEGIN} and {END}: put them where the section belongs")
    write_text(page, f"{before}{BEGIN}\n\n{section(records)}\n\n{END}{after}")


def section(records: dict[str, dict]) -> str:
    """Returns the section, in Markdown, for records by the names of jobs."""
    known = [job for job in JOBS if job.name in records]
    parts = [_introduction([records[job.name]["result"] for job in known if "result" in records[job.name]])]
    parts += [_part(records[job.name]) for job in known if "result" in records[job.name]]
    missing = {job.name: records[job.name]["status"] for job in known if "result" not in records[job.name]}
    if missing:
        parts.append("Not measured: " + ", ".join(f"`{name}` ({status})" for name, status in missing.items()) + ".")
    return "\n\n".join(parts)


def _introduction(results: list[dict]) -> str:
    if not results:
        return "Nothing was measured."
    first = results[0]
    versions = ", ".join(f"{package} {version}" for package, version in first["versions"].items())
    return f"GPU: {first['gpu']}. CPU: {first['cpu']}. Python {first['python']}, {versions}."


def _part(record: dict) -> str:
    result = record["result"]
    text = f"**{result['title']}**, by `{record['command']}`"
    text += {"done": "", "running": "; the run ended before it did", "cut": "; it had no time to end"}.get(
        record["status"], "; it failed in part"
    )
    rows = result["rows"]
    columns = [name for name in rows[0] if any(row[name] != "" for row in rows)]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(_cell(row[name]) for name in columns) + " |" for row in rows]
    return f"{text}:\n\n" + "\n".join(lines)


def _cell(value) -> str:
    if isinstance(value, float):
        digits = max(0, 3 - len(f"{abs(value):.0f}"))
        return f"{value:,.{digits}f}"
    return str(value)[:_WIDEST].replace("|", "\\|").replace("\n", " ")
