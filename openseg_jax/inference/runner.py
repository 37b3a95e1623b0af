"""Runs a net over a source of images of any sizes, and yields what readers make of each."""

import copy
import functools
import itertools
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from openseg_jax import models, sharding
from openseg_jax.config import EvalSettings
from openseg_jax.data.normalize import Normalization
from openseg_jax.errors import InputError
from openseg_jax.inference.batches import Batch, eval_batches, input_size, net_size
from openseg_jax.inference.buckets import Size, exact_buckets, make_buckets
from openseg_jax.inference.forward import BLOCK, Forward
from openseg_jax.inference.protocols import make_protocol
from openseg_jax.inference.readers import Reader
from openseg_jax.models import backend


def fold(model: models.Segmentor, variables: dict, mesh: Mesh) -> dict:
    """Folds batch norms into the convolutions before them, once for all batches: see `models.folded`.

    variables: On the devices of the mesh.
    """
    program, _ = _folding(model, mesh)
    return {**variables, "folded": program(variables)}


@functools.lru_cache(maxsize=8)
def _folding(model: models.Segmentor, mesh: Mesh):
    """Returns the program of `fold`, made once for all validations of a run, and the shapes of its results."""

    def function(variables):
        with backend.on(mesh):
            return models.folded(model, variables)["folded"]

    shapes = jax.eval_shape(function, models.shapes(model))
    with backend.on(mesh):
        order = backend.current().kernel_order
    places = jax.tree.map(lambda x: backend.placed(sharding.replicated(mesh), order, x), shapes)
    structs = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, places)
    return jax.jit(function, out_shardings=places), structs


class Runner:
    """Runs a net over a source of samples, in a few programs and one batch ahead of who takes the results.

    It is made once and compiles once per bucket, for any number of runs. Each image comes once, whatever the sizes of
    batches and the numbers of devices and processes; its results do not depend on them. Of several processes, each
    yields its own images, and accumulators merge what they found.

    Example:
        readers = {"labels": ArgMax(), "counts": ConfusionCounts(len(classes))}
        runner = Runner(model, source, EvalSettings(batch_size=4), readers, normalization, mesh)
        score = Confusion(len(classes))
        for item in runner.run(variables):
            score.update(item)                              # takes item["counts"]
            write_mask(f"{item.name}.png", item["labels"])  # uint8 (H, W); copied from the device because it is taken
        print(score.merge(sharding.exchange).result()["miou"])

    Attributes:
        order: The indices of the images in the order in which they are run, over all processes.
        buckets: The canvases, and which images go to which.
        unreadable: The errors of images whose sizes could not be read, by index; they are in no bucket.
        pixels: The number of pixels of all images.
    """

    def __init__(
        self,
        model: models.Segmentor,
        source,
        settings: EvalSettings,
        readers: Mapping[str, Reader],
        normalization: Normalization,
        mesh: Mesh,
    ):
        """Raises InputError where net, settings, readers and devices do not fit each other.

        source: Samples with "image" and "label"; also `size(index)`, `names`, and `classes` for flips. readers: What is
        computed for each image, by the name under which an item has it; one may take the results of those before it.
        """
        for reader in readers.values():
            reader.check(model, settings)
        sharding.check_batch(mesh, "eval.batch_size", settings.batch_size)
        self._model, self._settings, self._readers = model, settings, dict(readers)
        self._normalization, self._mesh = normalization, mesh
        self._protocol = make_protocol(settings, getattr(getattr(source, "classes", None), "flip_pairs", ()))
        self._to_input, self._to_net = input_size(settings), net_size(settings)
        maps = [name for reader in readers.values() for name in reader.maps]
        self._maps = tuple(dict.fromkeys(maps + ["depth"] * self._protocol.by_depth))
        self._step = jax.jit(self._compute, static_argnames="exact", out_shardings=sharding.per_image(mesh))
        self._take(source)

    def over(self, source) -> "Runner":
        """Returns a runner over another source with the same classes, which shares the compiled programs."""
        other = copy.copy(self)
        other._take(source)
        return other

    @property
    def order(self) -> list[int]:
        return [index for bucket in self.buckets for index in bucket.indices]

    @property
    def batch_count(self) -> int:
        """The number of batches of a whole run."""
        return sum(-(-len(bucket.indices) // self._settings.batch_size) for bucket in self.buckets)

    def run(self, variables: dict, start: int = 0) -> Iterator["Item"]:
        """Yields the images of this process in the order of `order`.

        An image that cannot be read comes as an item with an `error`, which is raised when its results are taken.
        variables: On the devices of the mesh; those of `fold` save folding them again in each run. start: Batches to
        leave out, done by an earlier run.
        """
        for _, items in self.batches(variables, start):
            yield from items

    def batches(self, variables: dict, start: int = 0) -> Iterator[tuple[int, list["Item"]]]:
        """Yields what `run` does as (batches that are done with these items, items), on all processes at the same time.

        A batch may have no item on a process. The results of a batch are there to be taken when the next one was given
        to the devices, so that these always have something to do.
        """
        rank, count = jax.process_index(), jax.process_count()
        if self.unreadable:
            own = [(index, error) for index, error in self.unreadable.items() if index % count == rank]
            yield start, [Item(self.source, index, None, error) for index, error in own]
        options = {"input_size": self._to_input, "net_size": self._to_net, "maps": self._maps, "process": (rank, count)}
        options |= {"batch_size": self._settings.batch_size, "start": start}
        variables = variables if "folded" in variables else fold(self._model, variables, self._mesh)
        loaded = eval_batches(self.source, self.buckets, **options)

        def step(batch: Batch) -> dict[str, jax.Array]:
            return self._step(variables, sharding.put_batch(self._mesh, batch.arrays), exact=batch.exact)

        steps = ((batch, step(batch)) for batch in loaded)
        for done, (given, _) in enumerate(itertools.pairwise(itertools.chain(steps, [None])), start + 1):
            yield done, self._items(*given)

    def lower(self, exact: bool, batch: dict) -> jax.stages.Lowered:
        """Lowers the program of a bucket for the shapes of a batch of it."""
        everywhere = sharding.replicated(self._mesh)
        place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere)  # noqa: E731
        shapes = jax.tree.map(place, models.shapes(self._model))
        _, folded = _folding(self._model, self._mesh)
        return self._step.lower({**shapes, "folded": folded}, batch, exact=exact)

    def _take(self, source) -> None:
        self.source, self.unreadable = source, {}
        self._sizes = sizes = [self._size(index) for index in range(len(source))]
        self.pixels = sum(size[0] * size[1] for size in sizes if size)
        if self._settings.exact_shapes:
            self.buckets = exact_buckets(sizes, self._seen)
        else:
            options = {"max_buckets": self._settings.max_buckets, "multiple": self._mesh.devices.shape[1]}
            self.buckets = make_buckets(sizes, input_size=self._seen, **options)

    def _seen(self, height: int, width: int) -> Size:
        return self._to_net(*self._to_input(height, width))

    def _size(self, index: int) -> Size | None:
        try:
            return self.source.size(index)
        except InputError as error:
            self.unreadable[index] = error
            return None

    def _compute(self, variables: dict, batch: dict[str, jax.Array], exact: bool = False) -> dict[str, jax.Array]:
        """Computes the results of all readers for a batch, (N, ...) each."""
        settings, height = self._settings, batch["label"].shape[1]
        options = {"resized": bool(settings.min_side or settings.size), "exact": exact}
        options["rows"] = height if sharding.splits_rows(self._mesh, height) else BLOCK
        forward = Forward(self._model, variables, batch, self._normalization, self._protocol, **options)
        with backend.on(self._mesh):
            for name, reader in self._readers.items():
                forward.found[name] = reader(forward)
        return forward.found

    def _items(self, batch: Batch, arrays: dict[str, jax.Array]) -> list["Item"]:
        on_host = functools.cache(lambda name: sharding.local_rows(arrays[name]))

        def take(row: int, size: Size, name: str) -> np.ndarray:
            array = on_host(name)[row]
            return array[: size[0], : size[1]] if self._readers[name].is_map else array

        found = dict(batch.failures)
        for row, index in enumerate(map(int, batch.arrays["index"])):
            if index >= 0:
                found[index] = functools.partial(take, row, self._sizes[index])
        return [Item(self.source, index, self._sizes[index], what) for index, what in found.items()]


class Item:
    """One image of a run. `item[name]` is the result of the reader with this name.

    Results are copied from the device when they are taken, a batch at a time; what nobody takes costs nothing.

    Attributes:
        index: Its place in the source, where it is called `name`.
        size: Its (height, width) and that of its maps; None if that could not be read.
        error: Why it could not be read, or None; taking its results then raises this.
    """

    def __init__(self, source, index: int, size: Size | None, found):
        self._source, self._found = source, found
        self.index, self.name, self.size = index, str(source.names[index]), size
        self.error = found if isinstance(found, InputError) else None

    def __getitem__(self, name: str) -> np.ndarray:
        if self.error:
            raise self.error
        return self._found(name)

    @functools.cached_property
    def sample(self) -> dict:
        """The sample of the source, read again when it is asked for."""
        return self._source[self.index]
