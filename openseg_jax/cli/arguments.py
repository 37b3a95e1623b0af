"""Values of command-line options that several commands take."""

from __future__ import annotations

from openseg_jax.errors import InputError


def parse_size(option: str, text: str) -> tuple[int, int]:
    """(height, width) of "512x512"."""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
        raise InputError(f"{option} is HEIGHTxWIDTH, such as 512x512, found {text!r}")
    return int(parts[0]), int(parts[1])
