"""What must hold between the fields of a config."""

from __future__ import annotations

from collections.abc import Iterator

from openseg_jax.config.schema import Config

# The fields that a contradiction is between, and a sentence on it.
Contradiction = tuple[tuple[str, ...], str]


def contradictions(config: Config) -> Iterator[Contradiction]:
    """Yields each contradiction between fields that are all right alone."""
    yield from ()
