"""What a backbone hands to a head."""

from __future__ import annotations

from typing import Any, NamedTuple


class Taps(NamedTuple):
    """The feature maps of a backbone, and the two that most heads are built on. Also used for their channel counts.

    maps: every tap, finest first, as the original returns them.
    low: what auxiliary classifiers read (the last but one stage of a ResNet).
    high: what the head itself reads. HRNet has a single map for both: all branches joined at the finest resolution.
    """

    maps: tuple[Any, ...]
    low: Any
    high: Any
