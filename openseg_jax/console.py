"""The terminal, on which text from data is shown as it is and never read as markup."""

from collections.abc import Iterable
from typing import TypeVar

import rich.console
import rich.progress
from rich.markup import escape

from openseg_jax.text import visible

Item = TypeVar("Item")


class Console(rich.console.Console):
    """A console of rich whose strings are plain text, in tables, too; styles are given beside the text."""

    def __init__(self, **options):
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options):
        return super().render_str(visible(text), **options)


def track(
    items: Iterable[Item], what: str, count: int | None = None, console: Console | None = None, transient: bool = False
) -> Iterable[Item]:
    """Yields `count` items, behind a bar that shows the progress of `what`."""
    options = {"console": console or Console(), "transient": transient}
    return rich.progress.track(items, escape(visible(what)), count, **options)
