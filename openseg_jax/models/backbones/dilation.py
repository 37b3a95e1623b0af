"""How a ResNet is made to end at stride 8 or 16 instead of 32: strides become dilations (Yu, Koltun 2016)."""

from typing import NamedTuple


class Placement(NamedTuple):
    """Stride and dilations of one residual block, the keyword arguments that blocks take."""

    stride: int
    first_dilation: int  # of the block's first 3x3 convolution
    dilation: int  # of the other one, where there is one


def place_blocks(
    stage: int, count: int, output_stride: int, multi_grid: tuple[int, ...] | None = None
) -> list[Placement]:
    """Where the `count` blocks of stage 1, 2, 3 or 4 stand, in a net that ends at output_stride 8, 16 or 32.

    A stage that gives up its stride of 2 has dilation D = 2, or 4 if an earlier stage has given up its own too. The
    convolution that had the stride gets D / 2: it still reads what the stage before it has written. multi_grid
    multiplies D block by block, in stage 4 only (Chen et al. 2017); blocks it does not reach stay at dilation 1, as in
    the original. Raises ValueError if it is longer than the stage.
    """
    first_dilated = {32: 5, 16: 4, 8: 3}[output_stride]
    stride = 1 if stage == 1 or stage >= first_dilated else 2
    if stage < first_dilated:
        dilations = [1] * count
    else:
        dilations = [2 ** (stage - first_dilated + 1)] * count
        if stage == 4 and multi_grid:
            if len(multi_grid) > count:
                raise ValueError(f"multi_grid {list(multi_grid)} has more entries than the last stage blocks, {count}")
            factors = [*multi_grid, *[None] * (count - len(multi_grid))]
            dilations = [1 if factor is None else int(d * factor) for d, factor in zip(dilations, factors, strict=True)]
    return [
        Placement(
            stride=stride if block == 0 else 1,
            first_dilation=max(dilation // 2, 1) if block == 0 else dilation,
            dilation=dilation,
        )
        for block, dilation in enumerate(dilations)
    ]
