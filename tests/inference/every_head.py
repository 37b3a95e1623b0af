"""Compares images of mixed sizes in few programs with one program per size, for every head. Prints a table.

    python -m tests.inference.every_head            # all protocols, twelve sizes
    python -m tests.inference.every_head ms_flip

The heads share one small backbone, so that a program holds them all. Nets that are given the labels are tested at one
scale, the only protocol there is for them.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax import models
from openseg_jax.config import EvalSettings
from openseg_jax.data.normalize import Normalization
from openseg_jax.data.sources import ArraySource
from openseg_jax.inference.batches import eval_batches
from openseg_jax.inference.buckets import exact_buckets, make_buckets
from openseg_jax.inference.forward import Forward
from openseg_jax.inference.protocols import PROTOCOLS, make_protocol
from openseg_jax.models.layers import BatchNorm, concat
from openseg_jax.models.segmentor import Head, ModelSpec, Segmentor
from tests import tiny

SIZES = [(60, 90), (61, 310), (230, 90), (97, 101), (120, 119), (64, 128), (77, 200), (150, 96), (230, 310), (99, 75),
         (180, 222), (66, 91)]  # fmt: skip
CLASSES = 5


class AllHeads(Head):
    def __init__(self, names: tuple[str, ...]):
        self.names, taps = names, tiny.SmallBackbone().taps
        for name in names:
            recipe = models.MODELS[name]
            options = {key: value for key, value in tiny.HEADS[name].items() if key != "factors"}
            setattr(self, name, recipe.head.build(taps, CLASSES, BatchNorm, **recipe.head.options | options))
        self.needs_labels = any(getattr(self, name).needs_labels for name in names)

    def __call__(self, taps, *, train, rngs=None, labels=None):
        outputs = {}
        for name in self.names:
            head = getattr(self, name)
            found = head(taps, train=train, **({"labels": labels} if head.needs_labels else {}))
            outputs |= {f"{name}.{output}": found[output] for output in scored(name)}
        return outputs


class Together(Segmentor):
    """The outputs of all heads side by side, as one output."""

    def __call__(self, images, **options):
        return {"out": concat(list(super().__call__(images, **options).values()))}


def scored(name: str) -> tuple[str, ...]:
    head = models.MODELS[name].head.build
    return (head.main_output,) if head.needs_classes else ("mask", "direction")


def heads_for(protocol: str) -> tuple[str, ...]:
    return tuple(name for name in tiny.HEADS if protocol == "single" or not tiny.create(name).head.needs_labels)


class Scenes(ArraySource):
    """Coarse random images, with labels and depths for the nets and protocols that take them."""

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        label = rng.integers(0, CLASSES, self.size(index)).astype(np.uint8)
        return super().__getitem__(index) | {"label": label, "depth": rng.uniform(0, 63, label.shape)}


def images(sizes) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 256, (-(-h // 8), -(-w // 8), 3)), np.ones((8, 8, 1)))[:h, :w].astype(np.uint8)
            for h, w in sizes]  # fmt: skip


def options_of(protocol: str) -> dict:
    """Small windows, two scales."""
    found = {"scales": (0.5, 1.0)} if protocol.startswith("ms") else {}
    return found | (
        {"crop": (64, 80), "crop_stride": (48, 56), "crop_window": "gaussian"} if "crops" in protocol else {}
    )


def compare(name: str, sizes=SIZES, *, max_buckets: int = 4, batch_sizes: tuple[int, ...] = (3, 1)) -> dict:
    """{"programs": of the buckets, "error": of the logits, relative to the largest of a head, "ties": pixels of another
    class, "different": those among them that are no tie}, over all heads and sizes."""
    heads = heads_for(name)
    spec = ModelSpec("all", CLASSES, "small", ("batch_norm",) * 2, "float32", ())
    model = Together(spec, tiny.SmallBackbone(), AllHeads(heads))
    variables = tiny.random_variables(model)
    protocol = make_protocol(EvalSettings(protocol=name, **options_of(name)))
    source = Scenes(images(sizes))

    def run(buckets, batch_size: int, exact: bool):
        forward = lambda batch: Forward(model, variables, batch, Normalization(), protocol, exact=exact)  # noqa: E731
        step = jax.jit(lambda batch: forward(batch).read())
        found = {}
        for batch, *_ in eval_batches(source, buckets, batch_size=batch_size, maps=("depth",)):
            logits = np.asarray(step(jax.tree.map(jnp.asarray, batch)))
            boxes = batch["label_box"]
            found |= {i: x[:h, :w] for i, x, (_, _, h, w) in zip(batch["index"], logits, boxes, strict=True)}
        return found, step._cache_size()

    exact, _ = run(exact_buckets(sizes, lambda *size: size), 1, True)
    widths = [model_width(head, output) for head in heads for output in scored(head)]
    bounds = np.cumsum(widths)[:-1]
    largest = [max(np.abs(np.split(x, bounds, -1)[k]).max() for x in exact.values()) for k in range(len(widths))]
    result = {"programs": 0, "error": 0.0, "ties": 0, "different": 0}
    for batch_size in batch_sizes:
        found, programs = run(make_buckets(sizes, max_buckets=max_buckets), batch_size, False)
        result["programs"] = max(result["programs"], programs)
        for index, expected in exact.items():
            pairs = zip(np.split(found[index], bounds, -1), np.split(expected, bounds, -1), largest, strict=True)
            for ours, theirs, most in pairs:
                result["error"] = max(result["error"], float(np.abs(ours - theirs).max() / most))
                first, second = np.sort(theirs, axis=-1)[..., -1], np.sort(theirs, axis=-1)[..., -2]
                other = ours.argmax(-1) != theirs.argmax(-1)
                result["ties"] += int(other.sum())
                result["different"] += int((other & (first - second > 2e-4 * most)).sum())
    return result


def model_width(head: str, output: str) -> int:
    return {"mask": 2, "direction": 8}.get(output, CLASSES)


if __name__ == "__main__":
    print("protocol   heads  programs  error of logits  pixels of another class  of these no ties")
    for protocol in sys.argv[1:] or PROTOCOLS:
        r = compare(protocol)
        print(f"{protocol:10} {len(heads_for(protocol)):5} {r['programs']:9} {r['error']:16.1e} {r['ties']:24} "
              f"{r['different']:17}", flush=True)  # fmt: skip
