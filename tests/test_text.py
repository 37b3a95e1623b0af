"""Text from data is shown as text: on the terminal, in pages and in figures."""

import io

import numpy as np
import pytest
from rich.table import Table

from openseg_jax import page, plots
from openseg_jax.console import Console, track
from openseg_jax.text import visible, without_middle

HOSTILE = ["[/]", "[bold]x", ":smile:", "$x_{$", "<b>&", "a\x1b[31mb", "\u202egnp.exe", "x\udcff", "ש" * 300, "_", "\\"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_shown_as_they_are(name):
    console = Console(file=io.TextIOWrapper(io.BytesIO(), "utf-8"), width=1000)
    table = Table("name", title=name)
    table.add_row(name)
    console.print(table)
    console.print(f"left out {name}", style="red")
    list(track([0], name, console=console))
    console.file.seek(0)
    shown = console.file.read()
    assert shown.count(visible(name)) >= 3
    assert "\x1b[31mb" not in shown
    html = page.document(name, [page.table([name], [[name]])])
    assert "<b>" not in html
    html.encode()
    assert len(plots.confusion(np.eye(2), [name, "other"])) > 1000
    assert len(plots.curves({name: [(1, 2.0)], "b": []}, name)) > 1000


def test_characters_that_act_become_visible():
    assert visible("é\x1b\u202e\udcff\n") == "é\\x1b\\u202e\\udcff\n"
    assert without_middle("abcdefghij", 5) == "ab…ij"
    assert without_middle("abc") == "abc"
