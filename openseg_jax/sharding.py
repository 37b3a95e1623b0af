"""Where arrays live. Only this module knows of several devices; models, losses and steps are written as for one."""

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from openseg_jax.errors import InputError

# The fewest rows of an image that a device of the `spatial` axis gets: two at stride 32. With one, a map can have
# fewer rows than a 3x3 kernel, and XLA's partitioner (jax 0.10) then gives wrong gradients, without an error.
MIN_ROWS = 64


def join_processes(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> None:
    """Makes this process one of several that run the same program; what is None the cluster knows itself.

    On CPUs nothing comes from JAX's compilation cache then: with programs of the cache (jax 0.10) the processes pair up
    different collectives, and end with an error of gloo.
    """
    jax.distributed.initialize(coordinator, count, index)
    if jax.default_backend() == "cpu":
        jax.config.update("jax_enable_compilation_cache", False)


def make_mesh(spatial: int = 1, devices: list[jax.Device] | None = None) -> Mesh:
    """Returns a mesh ("data", "spatial"): images are spread over `data`, the rows of each image over `spatial` devices.

    Its axes are Auto: XLA propagates the shardings, exchanges the rows that convolutions need at the borders, and makes
    batch statistics global. Raises InputError if `spatial` does not divide the devices of a process.
    """
    grid = np.asarray(devices or jax.devices())
    if spatial < 1 or jax.local_device_count() % spatial:
        raise InputError(
            f"mesh.spatial={spatial} must divide the {jax.local_device_count()} devices of a process: "
            "the rows of an image stay within one"
        )
    return Mesh(grid.reshape(-1, spatial), ("data", "spatial"), axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def check_batch(mesh: Mesh, what: str, batch_size: int, height: int | None = None) -> None:
    """Raises InputError unless a batch of images, with `height` rows if given, divides over the mesh."""
    data, spatial = mesh.devices.shape
    if batch_size % data:
        raise InputError(
            f"{what} of {batch_size} cannot be spread evenly over {data} devices: take a multiple of {data}"
        )
    if height is not None and splits_rows(mesh, height) and height % spatial:
        raise InputError(f"a height of {height} cannot be split over mesh.spatial={spatial} devices")


def splits_rows(mesh: Mesh, height: int) -> bool:
    """Returns whether the rows of images are split over the spatial axis; if not, each of its devices computes all."""
    spatial = mesh.devices.shape[1]
    return spatial > 1 and height >= spatial * MIN_ROWS


def per_image(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays (N, ...) with one row for each image of a batch."""
    return NamedSharding(mesh, PartitionSpec("data"))


def local_rows(array: jax.Array) -> np.ndarray:
    """Returns the rows of an array with sharding `per_image` that belong to this process's part of the batch."""
    shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def exchange(data: bytes) -> list[bytes]:
    """Gives every process the data of all, ordered by process. All must call it at the same point."""
    if jax.process_count() == 1:
        return [data]
    lengths = multihost_utils.process_allgather(np.array([len(data)], np.int32)).reshape(-1)
    padded = np.zeros(max(lengths), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [np.asarray(row)[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


def of_batch(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """Returns the sharding of an array of a batch: images over `data`, their rows, unless too few, over `spatial`."""
    axes = ("data", "spatial") if len(shape) >= 3 and splits_rows(mesh, shape[1]) else ("data",)
    return NamedSharding(mesh, PartitionSpec(*axes))


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Returns the global arrays of a batch, of which each process gives its part; `of_batch` says where they lie."""

    def put(array):
        array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
        return jax.make_array_from_process_local_data(of_batch(mesh, array.shape), array)

    return {key: put(array) for key, array in batch.items()}


def divided(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """Returns the sharding that divides an array along the first axis that the devices of `data` divide, if any."""
    divisible = [axis for axis, side in enumerate(shape) if side % mesh.devices.shape[0] == 0]
    return NamedSharding(mesh, PartitionSpec(*[None] * divisible[0], "data")) if divisible else replicated(mesh)


def put(shardings, tree):
    """Puts host values, the same on every process, where the shardings say."""
    return jax.tree.map(
        lambda x, s: jax.make_array_from_callback(np.shape(x), s, np.asarray(x).__getitem__), tree, shardings
    )


def put_replicated(mesh: Mesh, tree):
    """Puts the same host values on every device."""
    return put(jax.tree.map(lambda _: replicated(mesh), tree), tree)
