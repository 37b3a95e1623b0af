"""Parts of an HTML page that is one file: images and figures are inside it."""

import base64
import html
from collections.abc import Iterable

import cv2
import numpy as np

from openseg_jax.text import visible

_STYLE = """
body { font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #222 }
table { border-collapse: collapse } td, th { border: 1px solid #ccc; padding: .4em .6em; text-align: left;
vertical-align: top } td.number { text-align: right } pre { background: #f4f4f4; padding: .6em; overflow-x: auto;
margin: .4em 0 0 } .error { color: #b00020 } .warning { color: #8a6100 } img { max-width: 100% }
figure { display: inline-block; margin: 0 .8em .8em 0 } figcaption, small { color: #666 }
"""


def percent(fraction: float | None, digits: int = 2) -> str:
    """Returns a fraction in percent, without the sign; "-" if it is None or nan."""
    return "-" if fraction is None or np.isnan(fraction) else f"{100 * fraction:.{digits}f}"


def plain(text: object) -> str:
    """Returns text as HTML that shows it."""
    return html.escape(visible(str(text)))


def document(title: str, parts: Iterable[str]) -> str:
    """Returns a page. parts: HTML."""
    head = f"<title>{plain(title)}</title><style>{_STYLE}</style>"
    return f'<!doctype html><html lang="en"><meta charset="utf-8">{head}{"".join(parts)}</html>\n'


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Returns a table of plain text, in which numbers stand at the right."""
    lines = ["".join(f"<th>{plain(name)}</th>" for name in header)]
    for row in rows:
        lines.append("".join(_cell(value) for value in row))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(value: object) -> str:
    text = plain(value)
    is_number = text.replace(".", "", 1).replace(",", "").lstrip("-").isdigit()
    return f'<td class="number">{text}</td>' if is_number else f"<td>{text}</td>"


def image(pixels: np.ndarray, caption: str = "", quality: int = 80) -> str:
    """Returns an image, uint8 (H, W, 3) RGB, as a JPEG inside the page."""
    data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return _figure("image/jpeg", data, caption)


def plot(png: bytes, caption: str = "") -> str:
    """Returns a figure of `openseg_jax.plots`."""
    return _figure("image/png", png, caption)


def _figure(kind: str, data: bytes, caption: str) -> str:
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return f'<figure><img src="{source}" alt="{plain(caption)}"><figcaption>{plain(caption)}</figcaption></figure>'
