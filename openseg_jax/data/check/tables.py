"""A class table made of what masks contain."""

from __future__ import annotations

import json

from openseg_jax.data.check.scan import Scan, total
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import IGNORE, bit_color


def draft(scan: Scan) -> tuple[str, str]:
    """What the masks of a scan without class table contain, in words, and a classes.yaml for it, to be filled in."""
    ids = sorted(total(s.mask.ids for s in scan.samples() if s.mask))
    colors = total(s.mask.colors for s in scan.samples() if s.mask and not s.mask.ids)
    if not ids and not colors:
        raise InputError(f"{scan.root} has no mask that can be read in {', '.join(scan.splits)}")
    lines = [f"title: {json.dumps(scan.root.name)}"]
    if ids:
        named = [i for i in ids if i != IGNORE] if ids != [0, 255] else ids
        found = f"the ids {', '.join(map(str, ids))}"
        lines += [f"void: {sorted({IGNORE} - set(named))}", "classes:"]
        lines += [f"  - {{name: class {i}, id: {i}, color: {list(bit_color(i + 1))}}}" for i in named]
    else:
        named = [color for color, _ in colors.most_common()]
        found = f"the colours {', '.join(map(str, named[:8]))}{' and others' * (len(named) > 8)}"
        lines += ["masks: colors", "classes:"]
        lines += [f"  - {{name: class {i}, color: {list(color)}}}" for i, color in enumerate(named)]
    return found, "\n".join(lines) + "\n"
