"""Inference over a source of images: every size through a few compiled programs, each image once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from openseg_jax import models, sharding
from openseg_jax.data import pipeline, transforms
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.errors import InputError
from openseg_jax.inference.buckets import exact_buckets, make_buckets
from openseg_jax.inference.protocols import Protocol, make_protocol
from openseg_jax.labels.classes import ClassTable, to_labels
from openseg_jax.metrics.confusion import confusion_matrix, scores
from openseg_jax.models import resize
from openseg_jax.models.layers import Canvas, FeatureMap

Read = Callable[[jax.Array], Any]  # logits (N, H, W, K) -> arrays (N, H, W, ...)
_BLOCK = 64  # rows and columns that are resized at a time

# The `eval` part of a config.
DEFAULTS = {
    "batch_size": 4,
    "max_buckets": 4,  # padded shapes, each one compilation
    "min_side": 0,  # resize so that the shorter side is this; 0 keeps the size
    "size": (),  # or resize to this height and width
    "pad_size": (),  # the original's padding, of which the net does not know: to this height and width,
    "pad_stride": 1,  # or to a multiple of this
    "protocol": "single",  # flip, flip_mean, ms, ms_flip, crops, ms_crops: docs/protocols.md
    "scales": (),  # other ones than those of the protocol
    "scale_weights": (),
    "swap": True,  # in mirrors, left and right classes exchange names; the original's tester does not do that
    "crop": (),  # height, width of windows
    "crop_stride": (),  # between windows; their size if not given
    "crop_window": "uniform",  # or gaussian
    "exact_shapes": False,  # no padding, one program per size; to compare
    "segfix": "",  # refine before scoring, by the offsets in this folder, or by this checkpoint of a SegFix net
    "segfix_scale": 2,  # times as far as the offsets
}


def input_size(config) -> Callable[[int, int], tuple[int, int]]:
    """The size at which the network sees an image. config: the `eval` part of a config."""
    if config.size:
        return lambda height, width: tuple(config.size)
    if config.min_side:
        return functools.partial(transforms.min_side_size, min_side=config.min_side)
    return lambda height, width: (height, width)


def net_size(config) -> Callable[[int, int], tuple[int, int]]:
    """The size with the padding that counts as part of an image, as the original pads; config: the `eval` part."""
    if config.pad_size:
        return lambda height, width: tuple(map(max, config.pad_size, (height, width)))
    return lambda height, width: tuple(-(-side // config.pad_stride) * config.pad_stride for side in (height, width))


def normalized(batch: dict, normalization: Normalization) -> jax.Array:
    """float32 (N, H, W, 3): the images of a batch of `data.pipeline.eval_batches`, 0 beyond their sizes."""
    boxes = jnp.concatenate([jnp.zeros_like(batch["size"]), batch["size"]], axis=1)
    return normalize(batch["image"], boxes, normalization)


def predict(
    model: models.Segmentor,
    variables: dict,
    batch: dict,
    normalization: Normalization,
    protocol: Protocol = Protocol(),  # noqa: B008
    *,
    resized: bool = False,
    exact: bool = False,
    rows: int = _BLOCK,
    read: Read = lambda logits: logits,
):
    """What `read` makes of the logits (N, H', W', K) at the images' own sizes, on the canvas of batch["label"].

    batch: as `data.pipeline.eval_batches` makes them. resized: whether the net sees another size than an image's own;
    logits are then brought back by OpenCV's cubic rule, as in the original. exact: the batch is not padded.
    rows: that are resized at a time; all, where the rows of a picture are spread over devices.
    read: applied to each pixel, such as an arg max; beyond the images to logits of 0, or its result is 0.
    """
    images = normalized(batch, normalization)
    labels = to_labels(batch["label"]) if model.head.needs_labels else None

    def net(x: FeatureMap) -> FeatureMap:
        logits = models.apply(model, variables, x.values, sizes=x.extent, labels=labels)[model.main_output]
        return x.replace(logits)

    depth = FeatureMap(batch["depth"][..., None], batch["label_size"]) if protocol.by_depth else None
    logits = protocol.logits(net, FeatureMap(images, None if exact else batch["net_size"]), depth)
    cut = FeatureMap(logits.values, batch["size"]).zero_outside()
    if resized:
        return _read_resized(cut, Canvas(*batch["label"].shape[1:], batch["label_size"]), read, rows)
    height, width = batch["label"].shape[1:]
    return read(cut.values[:, :height, :width])


def _read_resized(logits: FeatureMap, canvas: Canvas, read: Read, rows: int):
    """In blocks, up to the height and width of the largest image: all classes at full size may not fit into memory."""
    n, height, width = logits.shape[0], canvas.height, canvas.width
    block = min(rows, height), min(_BLOCK, width)
    most = -(-jnp.max(canvas.extent, axis=0) // jnp.array(block))
    padded = [-(-side // b) * b for side, b in zip((height, width), block, strict=True)]
    piece = jax.eval_shape(read, jax.ShapeDtypeStruct((n, *block, logits.shape[-1]), jnp.float32))
    whole = jax.tree.map(lambda x: jnp.zeros((n, *padded, *x.shape[3:]), x.dtype), piece)

    def row_of_blocks(i: jax.Array, found):
        strip = resize.cubic_part(logits, to=canvas, axis=1, start=i * block[0], count=block[0])

        def one_block(j: jax.Array, found):
            part = read(resize.cubic_part(strip, to=canvas, axis=2, start=j * block[1], count=block[1]).values)
            place = (0, i * block[0], j * block[1])
            put = lambda whole, x: jax.lax.dynamic_update_slice(whole, x, (*place, *[0] * (x.ndim - 3)))  # noqa: E731
            return jax.tree.map(put, found, part)

        return jax.lax.fori_loop(0, most[1], one_block, found)

    found = jax.lax.fori_loop(0, most[0], row_of_blocks, whole)
    return jax.tree.map(lambda x: x[:, :height, :width], found)


class Evaluator:
    """Runs a model over a source of samples. Made once, it compiles once per bucket, for any number of runs."""

    main_score = "miou"
    versions = 1  # of the counts, see `RefinedEvaluator`
    classes: ClassTable | None = None  # of what it predicts, if not those of the data
    maps: tuple[str, ...] = ()  # of a sample, besides image and label

    def __init__(self, model, config, source, normalization: Normalization, mesh: Mesh):
        """config: the `eval` part of a config."""
        self._check(model, config)
        sharding.check_batch(mesh, "eval.batch_size", config.batch_size)
        self._model, self._normalization, self._exact = model, normalization, config.exact_shapes
        self._resized = bool(config.min_side or config.size)
        pairs = getattr(getattr(source, "classes", None), "flip_pairs", ())
        self._protocol = make_protocol(config, pairs)
        if self._protocol.by_depth:
            self.maps = (*self.maps, "depth")
        self._source, self._mesh, self._batch_size = source, mesh, config.batch_size
        self._input_size, self._net_size = input_size(config), net_size(config)
        self._unreadable: dict[int, InputError] = {}
        sizes = [self._size(index) for index in range(len(source))]
        self.pixels = sum(size[0] * size[1] for size in sizes if size)
        seen = lambda *size: self._net_size(*self._input_size(*size))  # noqa: E731
        options = {"max_buckets": config.max_buckets, "multiple": mesh.devices.shape[1]}
        self.buckets = (
            exact_buckets(sizes, seen) if config.exact_shapes else make_buckets(sizes, input_size=seen, **options)
        )
        places = sharding.replicated(mesh), sharding.per_image(mesh)
        self._step = jax.jit(self._count, out_shardings=places)
        self._step_with_probabilities = jax.jit(self._count_with_probabilities, out_shardings=places)

    def run(
        self,
        variables: dict,
        on_prediction: Callable[[int, np.ndarray], None] | None = None,
        progress: Callable[[Iterator, int], Iterator] = lambda batches, count: batches,
        *,
        on_counts: Callable[[int, np.ndarray], None] | None = None,
        on_probabilities: Callable[[int, np.ndarray], None] | None = None,
        on_unrefined: Callable[[int, np.ndarray], None] | None = None,
        on_failure: Callable[[int, InputError], None] | None = None,
        on_batch: Callable[[int, np.ndarray], None] | None = None,
        first: int | None = None,
        start: int = 0,
    ) -> np.ndarray:
        """int64 counts over the whole source: the (K, K) confusion matrix.

        on_prediction: called with (index, uint8 (H, W) class ids) for each image; on_counts with (index, int (3, K)
        pixels that are right, labelled and predicted of each class); on_probabilities with (index, float16 (H, W, K));
        on_unrefined with (index, class ids before refinement), by a `RefinedEvaluator`.
        first: call on_prediction for so many images only, those of the lowest indices; the others stay on the device.
        on_failure: called for a sample that cannot be read, which is left out; without it, that is an error.
        on_batch: called with (batches done, the counts so far). start: batches to leave out, done by an earlier run.
        progress: wraps the batches.
        """
        for index, error in self._unreadable.items():
            if on_failure is None:
                raise error
            on_failure(index, error)
        process = (jax.process_index(), jax.process_count())
        batches = pipeline.eval_batches(
            self._source,
            self.buckets,
            batch_size=self._batch_size,
            input_size=self._input_size,
            net_size=self._net_size,
            process=process,
            maps=self.maps,
            start=start,
            on_failure=on_failure,
        )
        callbacks = _Callbacks(on_prediction, on_counts, on_probabilities, on_unrefined, first)
        step = self._step_with_probabilities if on_probabilities else self._step
        total, pending, done = 0, None, start
        for batch in _and_none(progress(batches, self.batch_count - start)):
            # read one batch late, so that the device always has the next one to do
            current = batch and (batch, step(variables, sharding.put_batch(self._mesh, batch)))
            if pending:
                total, done = total + _collect(*pending, callbacks), done + 1
                if on_batch:
                    on_batch(done, total)
            pending = current
        return total

    @property
    def batch_count(self) -> int:
        return sum(-(-len(bucket.indices) // self._batch_size) for bucket in self.buckets)

    def summary(self, counts: np.ndarray) -> dict[str, float]:
        """The scores that are one number."""
        return {name: value for name, value in scores(counts).items() if np.ndim(value) == 0}

    def truth(self, sample: dict) -> np.ndarray:
        """uint8 (H, W): what the prediction for a sample should be, 255 where nothing is."""
        return sample["label"]

    def _count(self, variables: dict, batch: dict) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """({"counts": of the batch, "images": int32 (N, 3, K) as `run` says, "index"}, what each image gets)."""
        return self._counted(batch, self._predict(variables, batch, {"prediction": _classes}))

    def _count_with_probabilities(self, variables: dict, batch: dict):
        wanted = {"prediction": _classes, "probabilities": _probabilities}
        return self._counted(batch, self._predict(variables, batch, wanted))

    def _predict(self, variables: dict, batch: dict, wanted: dict[str, Read]) -> dict[str, jax.Array]:
        height = batch["label"].shape[1]
        rows = height if sharding.splits_rows(self._mesh, height) else _BLOCK
        modes = {"resized": self._resized, "exact": self._exact, "rows": rows}
        read = lambda logits: {name: of(logits) for name, of in wanted.items()}  # noqa: E731
        return predict(self._model, variables, batch, self._normalization, self._protocol, **modes, read=read)

    def _counted(self, batch: dict, pictures: dict[str, jax.Array]):
        counts = functools.partial(confusion_matrix, num_classes=self._model.spec.num_classes)
        confusions = jax.vmap(counts)(batch["label"], pictures["prediction"])
        images = jax.vmap(class_counts)(confusions)
        return {"counts": confusions.sum(0), "images": images, "index": batch["index"]}, pictures

    def _size(self, index: int) -> tuple[int, int] | None:
        """Of a picture; none if it cannot be read."""
        try:
            return self._source.size(index)
        except InputError as error:
            self._unreadable[index] = error

    def _check(self, model: models.Segmentor, config) -> None:
        if model.head is None:
            raise InputError(f"{model.spec.name} is a backbone alone, which segments nothing")
        if not model.head.needs_classes:
            raise InputError(f"{model.spec.name} predicts boundaries, not classes: take python -m openseg_jax.segfix")
        changes_size = config.min_side or config.size or config.protocol != "single"
        if model.head.needs_labels and changes_size:
            raise InputError(
                f"{model.spec.name} is told the labels: take eval.protocol=single, at the images' own size"
            )


def class_counts(confusion: jax.Array) -> jax.Array:
    return jnp.stack([jnp.diagonal(confusion), confusion.sum(1), confusion.sum(0)])


def _classes(logits: jax.Array) -> jax.Array:
    return jnp.argmax(logits, axis=-1).astype(jnp.uint8)


def _probabilities(logits: jax.Array) -> jax.Array:
    return jax.nn.softmax(logits, axis=-1).astype(jnp.float16)


class _Callbacks(NamedTuple):
    prediction: Callable | None
    counts: Callable | None
    probabilities: Callable | None
    unrefined: Callable | None
    first: int | None


def _collect(batch: dict, results: tuple[dict, dict], callbacks: _Callbacks) -> np.ndarray:
    """The counts of a batch; each of its images goes to the callbacks: counts of all, pictures of this process."""
    totals, pictures = results
    if callbacks.counts:
        images = np.asarray(totals["images"])
        for row, index in enumerate(np.asarray(totals["index"])):
            if index >= 0:
                callbacks.counts(int(index), images[row])
    for name, array in pictures.items():
        callback = getattr(callbacks, name)
        most = callbacks.first if name == "prediction" and callbacks.first is not None else np.inf
        rows = np.flatnonzero((batch["index"] >= 0) & (batch["index"] < most))
        if callback and len(rows):
            local = sharding.local_rows(array)
            for row in rows:
                height, width = batch["label_size"][row]
                callback(int(batch["index"][row]), local[row, :height, :width])
    return np.asarray(totals["counts"], np.int64)


def _and_none(items: Iterator) -> Iterator:
    yield from items
    yield None
