"""One batch on its way through a net, and what is read of the logits at the images' own sizes."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from openseg_jax import models
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.inference.protocols import Protocol
from openseg_jax.labels.classes import to_labels
from openseg_jax.models import resize
from openseg_jax.models.layers import Canvas, FeatureMap

Read = Callable[[jax.Array], jax.Array]  # logits (N, H, W, K) -> (N, H, W, ...)
BLOCK = 64  # rows and columns that are resized at a time


def extent(boxes: jax.Array) -> jax.Array:
    """Returns the (N, 2) heights and widths of (N, 4) boxes that begin at the top left of their canvas."""
    return boxes[:, 2:]


@dataclasses.dataclass
class Forward:
    """What a program can compute of a batch; each property is computed once, when a reader asks for it.

    Attributes:
        batch: The arrays of `eval_batches`, on the device.
        resized: Whether the net sees another size than an image's own, to which OpenCV's cubic rule brings logits back.
        exact: Whether the batch has no padding.
        rows: Rows that are resized at a time; all of them where the rows of an image are spread over devices.
        found: The results of the readers so far, by name.
    """

    model: models.Segmentor
    variables: dict
    batch: dict[str, jax.Array]
    normalization: Normalization
    protocol: Protocol = Protocol()  # noqa: RUF009
    resized: bool = False
    exact: bool = False
    rows: int = BLOCK
    found: dict[str, jax.Array] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def images(self) -> FeatureMap:
        """The normalised images, float32 (N, H, W, 3), 0 around them; the extent is that of "net_box"."""
        values = normalize(self.batch["image"], self.batch["box"], self.normalization)
        return FeatureMap(values, None if self.exact else extent(self.batch["net_box"]))

    @property
    def own_size(self) -> Canvas:
        """The images' own sizes, on the canvas of the labels."""
        height, width = self.batch["label"].shape[1:]
        return Canvas(height, width, extent(self.batch["label_box"]))

    @functools.cached_property
    def logits(self) -> FeatureMap:
        """The logits of the net's main output under the protocol, float32 (N, H, W, K) at the size of the images."""
        labels = to_labels(self.batch["label"]) if self.model.head.needs_labels else None

        def net(x: FeatureMap) -> FeatureMap:
            found = models.apply(self.model, self.variables, x.values, sizes=x.extent, labels=labels)
            return x.replace(found[self.model.main_output])

        by_depth = self.protocol.by_depth
        depth = FeatureMap(self.batch["depth"][..., None], self.own_size.extent) if by_depth else None
        logits = self.protocol.logits(net, self.images, depth)
        return FeatureMap(logits.values, extent(self.batch["box"])).zero_outside()

    @functools.cached_property
    def outputs(self) -> dict[str, FeatureMap]:
        """All outputs of the net at their own resolutions; the net sees each image once, without padding."""
        sizes = extent(self.batch["box"])
        return models.apply(self.model, self.variables, self.images.values, sizes=sizes, maps=True)

    def read(self, read: Read = lambda logits: logits, output: str = "") -> jax.Array:
        """Returns what `read` makes of logits at the images' own sizes, on the canvas of the labels.

        read: Applied to each pixel, such as an arg max. Beyond the images it sees logits of 0, or its result is 0.
        output: An output of a net without classes; the segmentation if not given.
        """
        if self.resized or output:
            logits = self.outputs[output] if output else self.logits
            return _read_resized(logits, self.own_size, read, self.rows)
        height, width = self.batch["label"].shape[1:]
        return read(self.logits.values[:, :height, :width])


def _read_resized(logits: FeatureMap, to: Canvas, read: Read, rows: int) -> jax.Array:
    """Reads in blocks, as far as the largest image goes: all classes at full size may not fit into memory."""
    n, height, width = logits.shape[0], to.height, to.width
    block = min(rows, height), min(BLOCK, width)
    most = -(-jnp.max(to.extent, axis=0) // jnp.array(block))
    padded = [-(-side // b) * b for side, b in zip((height, width), block, strict=True)]
    piece = jax.eval_shape(read, jax.ShapeDtypeStruct((n, *block, logits.shape[-1]), jnp.float32))
    whole = jnp.zeros((n, *padded, *piece.shape[3:]), piece.dtype)

    def row_of_blocks(i: jax.Array, found: jax.Array) -> jax.Array:
        strip = resize.cubic_part(logits, to=to, axis=1, start=i * block[0], count=block[0])

        def one_block(j: jax.Array, found: jax.Array) -> jax.Array:
            part = read(resize.cubic_part(strip, to=to, axis=2, start=j * block[1], count=block[1]).values)
            place = (0, i * block[0], j * block[1], *[0] * (part.ndim - 3))
            return jax.lax.dynamic_update_slice(found, part, place)

        return jax.lax.fori_loop(0, most[1], one_block, found)

    return jax.lax.fori_loop(0, most[0], row_of_blocks, whole)[:, :height, :width]
