"""What the arguments of `openseg predict` name: images and films, each with the name of its results."""

import dataclasses
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from openseg_jax.data.images import IMAGE_SUFFIXES
from openseg_jax.errors import InputError
from openseg_jax.files import read_text

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")


@dataclasses.dataclass(frozen=True)
class Input:
    """A file, and the name of its results: that of the file without suffix, behind its subfolders of a given folder."""

    path: Path
    name: str

    @property
    def is_film(self) -> bool:
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_inputs(texts: Sequence[str]) -> tuple[list[Input], list[Input]]:
    """Returns the images and the films that files, folders, patterns and lists of them name.

    Raises:
        InputError: A folder or a pattern names nothing, a list names itself, or two files would have one name.
    """
    found = [one for text in texts for one in _expanded(text, ())]
    images, films = ([one for one in found if one.is_film == is_film] for is_film in (False, True))
    for kind in (images, films):
        paths: dict[str, Path] = {}
        for one in kind:
            if one.name in paths:
                raise InputError(
                    f"{paths[one.name]} and {one.path} are both called {one.name}: their results would overwrite each "
                    "other, so give them in two runs, or a folder that holds both in subfolders"
                )
            paths[one.name] = one.path
    return images, films


def _expanded(text: str, lists: tuple[Path, ...]) -> Iterator[Input]:
    """Yields what an argument, or a line of the innermost of `lists`, names."""
    path = Path(text).expanduser()
    if path.is_dir():
        yield from _of_folder(path)
    elif path.suffix.lower() == ".txt" and path.is_file():
        if path.resolve() in lists:
            raise InputError(f"the list {path} names itself")
        for line in read_text(path).splitlines():
            yield from _expanded(line.strip(), (*lists, path.resolve())) if line.strip() else ()
    elif any(letter in text for letter in "*?[") and not path.exists():
        suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
        files = [file for file in sorted(map(Path, glob.glob(str(path)))) if file.suffix.lower() in suffixes]
        if not files:
            raise InputError(f"no image or video fits {text}")
        yield from (Input(file, file.stem) for file in files)
    else:
        yield Input(path, path.stem)


def _of_folder(folder: Path) -> Iterator[Input]:
    files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in IMAGE_SUFFIXES]
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    if not files:
        raise InputError(f"{folder} contains no {', '.join(IMAGE_SUFFIXES)} files, nor do its subfolders")
    for file in files:
        yield Input(file, str(file.relative_to(folder).with_suffix("")))
