"""Figures, as PNG bytes. Text from data is shown as text, not as formulas."""

import io
import warnings
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from openseg_jax.text import visible, without_middle

_PLAIN = matplotlib.rc_context({"text.parse_math": False})


@_PLAIN
def curves(lines: Mapping[str, Sequence[tuple[float, float]]], title: str, *, log: bool = False) -> bytes:
    """Returns curves as a PNG. lines: (step, value) points by name. log: Whether the axis of values is logarithmic."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, points in lines.items():
        steps, values = zip(*points, strict=True) if points else ((), ())
        axes.plot(steps, values, label=_shown(name), linewidth=1.2, marker="." if len(points) < 30 else None)
    axes.set(title=_shown(title), xlabel="step", yscale="log" if log else "linear")
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend(fontsize=8)
    return _png(figure)


@_PLAIN
def confusion(matrix: np.ndarray, names: Sequence[str]) -> bytes:
    """Returns a confusion matrix (K, K) as a PNG. Rows are the ground truth, each divided by its sum."""
    side = min(4 + 0.22 * len(names), 24)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set(xlabel="prediction", ylabel="ground truth", xticks=range(len(names)), yticks=range(len(names)))
    size = 8 if len(names) <= 40 else 4
    shown = list(map(_shown, names))
    axes.set_xticklabels(shown, rotation=90, fontsize=size)
    axes.set_yticklabels(shown, fontsize=size)
    figure.colorbar(image, shrink=0.7)
    return _png(figure)


def _shown(name: str) -> str:
    return without_middle(visible(name), 24)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a script that the font lacks: it shows boxes
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
