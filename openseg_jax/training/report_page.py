"""report.html of a run: its curves, the scores of each class, and predictions beside the ground truth."""

from pathlib import Path

import numpy as np

from openseg_jax import page, plots
from openseg_jax.data.images import read_image
from openseg_jax.files import read_json, read_text, write_text


def write_report(workdir: Path, metrics: list[dict]) -> None:
    """Writes report.html from the lines of metrics.jsonl, and from validation.json and overlay/ if they exist."""
    parts = [f"<h1>{workdir.name}</h1>", _curves("training loss", {"loss": _points(metrics, "loss")})]
    keys = list(dict.fromkeys(key for line in metrics for key in line))
    rates = {key.partition("/")[2]: _points(metrics, key) for key in sorted(keys) if key.startswith("learning_rate/")}
    parts.append(_curves("learning rate", rates))
    norms = {"gradient norm": [(step, value) for step, value in _points(metrics, "gradient_norm") if value > 0]}
    parts.append(_curves("gradient norm", norms, log=True))
    scores = {key.partition("/")[2]: _points(metrics, key) for key in keys if key.startswith("val/")}
    if scores:
        parts.append(_curves("validation", scores))
    validation = workdir / "validation.json"
    if validation.exists():
        parts += _validation(read_json(validation))
    overlays = sorted((workdir / "overlay").glob("*.jpg"))
    if overlays:
        parts.append("<h2>Predictions, beside the truth</h2>")
        parts += [page.image(read_image(path), path.stem) for path in overlays]
    config = read_text(workdir / "config.json")
    parts.append(f"<h2>Config</h2><details><summary>config.json</summary><pre>{config}</pre></details>")
    write_text(workdir / "report.html", page.document(workdir.name, parts))


def _validation(content: dict) -> list[str]:
    parts = [f"<h2>Validation after step {content['step']}</h2>"]
    parts.append(page.table(("score", "%"), ((name, _percent(value)) for name, value in content["scores"].items())))
    if "classes" in content:
        rows = [(name, _percent(iou), _percent(accuracy), pixels) for name, iou, accuracy, pixels in content["classes"]]
        parts.append("<h3>Classes</h3>" + page.table(("class", "IoU %", "accuracy %", "pixels"), rows))
        parts.append(page.plot(plots.confusion(np.array(content["confusion"]), [row[0] for row in rows]), "confusion"))
    return parts


def _curves(title: str, lines: dict, *, log: bool = False) -> str:
    return page.plot(plots.curves(lines, title, log=log), title)


def _points(metrics: list[dict], key: str) -> list[tuple[int, float]]:
    return [(line["step"], line[key]) for line in metrics if line.get(key) is not None]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
