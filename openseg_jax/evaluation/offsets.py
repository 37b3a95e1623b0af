"""The offsets by which `eval.segfix` refines predictions before they are scored."""

from collections.abc import Callable, Iterable
from pathlib import Path

from openseg_jax import sharding
from openseg_jax.config import EvalSettings
from openseg_jax.data.offset_files import OFFSET_SUFFIXES, check_size, find_offsets, read_offsets, write_offsets
from openseg_jax.errors import InputError
from openseg_jax.inference.offsets import offset_runner


class WithOffsets:
    """A source whose samples also have "offsets", int8 (H, W, 2), from FOLDER/NAME.npz or .mat."""

    def __init__(self, source, folder: Path):
        self._source, self._folder = source, folder

    def __getattr__(self, name: str):
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict:
        sample = self._source[index]
        path = find_offsets(self._folder, sample["name"])
        offsets = read_offsets(path)
        check_size(offsets, path, sample["label"].shape, sample["name"])
        return sample | {"offsets": offsets}


def with_offsets(settings: EvalSettings, source, out: Path | None, track: Callable[[Iterable, int], Iterable]):
    """Returns the source with the offsets of a folder, or of a SegFix net, which are written into OUT/offsets first.

    track: Wraps the images whose offsets are predicted, of which it gets the number.
    """
    given = Path(settings.segfix).expanduser()
    if not given.is_dir():
        raise InputError(f"eval.segfix={given} is no folder: give one of offsets, or a checkpoint of a SegFix net")
    if any(file.suffix in OFFSET_SUFFIXES for file in given.iterdir()):
        return WithOffsets(source, given)
    if out is None:
        raise InputError("eval.segfix names a net, whose offsets are written: give --out")
    runner, variables = offset_runner(given, source, batch_size=settings.batch_size)
    for item in track(runner.run(variables), len(source)):
        if not item.error:  # the evaluation itself names what could not be read
            write_offsets(out / "offsets" / f"{item.name}.npz", item["offsets"])
    sharding.exchange(b"")  # a process may need the files of others
    return WithOffsets(source, out / "offsets")
