"""Further maps of a sample: files of the original's preparation scripts, or computed from labels."""

from pathlib import Path

import cv2
import numpy as np
import scipy.io

from openseg_jax.data.images import Stored, read_mask
from openseg_jax.data.matlab import MatlabError, read_matlab
from openseg_jax.errors import InputError
from openseg_jax.files import read_bytes, replacing
from openseg_jax.labels.classes import ClassTable
from openseg_jax.labels.ground_truth import ANGLE_STEP, instance_offsets, semantic_offsets

MAPS = ("edge", "offset", "stereo")
COMPUTED, INSTANCES = "", "instance"  # values of data.offset_folder that name no folder of files


class Maps:
    """Adds maps to the samples of a source, as `data.maps` and `data.offset_folder` of a config say.

    Args:
        classes: The classes of the labels.
        split: The folder of the split, or None if the source is no folder and can only compute offsets from labels.
        maps: "edge", from SPLIT/edge/NAME.png; "offset", which gives the "distance" and "angle" that SegFix learns;
            "stereo", which gives "depth", from the disparities of Cityscapes in SPLIT/stereo/NAME.png.
        offset_folder: Where offsets come from. "" computes them from the label, and "instance" from the instance ids
            of Cityscapes in SPLIT/instance/NAME.png; any other value names a folder with SPLIT/FOLDER/NAME.mat. Files
            hold what would be computed.

    Raises:
        InputError: On unknown maps; when called, on a file that is missing, damaged or not of the size of its label.
    """

    def __init__(
        self, classes: ClassTable, split: Path | None = None, *, maps: tuple = (), offset_folder: str = COMPUTED
    ):
        for name in maps:
            if name not in MAPS:
                raise InputError(f"data.maps are among {', '.join(MAPS)}, found {name!r}")
            if split is None and (name != "offset" or offset_folder != COMPUTED):
                raise InputError(
                    f"data.maps={tuple(maps)} with data.offset_folder={offset_folder!r} are files, which only a folder "
                    'of images and masks has: other sources take ("offset",) with data.offset_folder="", or none'
                )
        self.maps, self.offset_folder, self.split = tuple(maps), offset_folder, split
        self.class_ids = classes.all_ids

    def __call__(self, name: str, label: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the maps of the sample NAME, whose label is uint8 (H, W) train ids."""
        found = {}
        if "edge" in self.maps:
            found |= read_edge(self.split / "edge" / f"{name}.png", label.shape)
        if "offset" in self.maps:
            found |= self._offset(name, label)
        if "stereo" in self.maps:
            found |= read_stereo(self.split / "stereo" / f"{name}.png", label.shape)
        return found

    def _offset(self, name: str, label: np.ndarray) -> dict[str, np.ndarray]:
        if self.offset_folder == COMPUTED:
            return semantic_offsets(label)
        if self.offset_folder != INSTANCES:
            return read_offset(self.split / self.offset_folder / f"{name}.mat", label.shape)
        return instance_offsets(read_instances(self.split / INSTANCES / f"{name}.png", label.shape), self.class_ids)


def read_edge(path: Path, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Reads {"edge": uint8 (H, W), 1 on class boundaries} from a PNG of any size that is 255 there."""
    edge = (read_mask(path) == 255).astype(np.uint8)
    return {"edge": cv2.resize(edge, size[::-1], interpolation=cv2.INTER_NEAREST)}


def read_stereo(path: Path, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Reads {"depth": float32 (H, W)} from a 16-bit PNG of disparities as Cityscapes has them."""
    file = Stored(read_bytes(path), str(path))
    if (file.header.format, file.mode) != ("PNG", "I;16"):
        raise InputError(f"{path} is not a 16-bit PNG of disparities but a {file.header.format} of mode {file.mode}")
    disparity = file.pixels()
    _check_sizes(path, disparity.shape, size)
    return {"depth": depth_of(disparity)}


def depth_of(disparity: np.ndarray) -> np.ndarray:
    """Converts uint16 disparities to float32 depth from 0 to 63, by the original's numbers; no disparity (0) is 63."""
    with np.errstate(divide="ignore"):
        return np.clip(500 * 0.5 / (disparity / 256), 0, 63).astype(np.float32)


def read_offset(path: Path, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Reads {"distance": int32 (H, W) pixels, "angle": float64 (H, W) degrees} from a .mat file."""
    try:
        content = read_matlab(read_bytes(path), ("depth", "dir_deg", "deg_reduce"))
    except MatlabError as error:
        raise InputError(f"cannot read depth, dir_deg and deg_reduce from {path}: it {error}") from error
    if content["deg_reduce"].size != 1:
        raise InputError(f"{path} holds {content['deg_reduce'].size} numbers as deg_reduce, and one is wanted")
    maps = {
        "distance": content["depth"].astype(np.int32),
        "angle": float(content["deg_reduce"].item()) * content["dir_deg"] - 180,
    }
    _check_sizes(path, maps["distance"].shape, size)
    _check_sizes(path, maps["angle"].shape, size)
    return maps


def write_offset(path: Path, distance: np.ndarray, angle: np.ndarray) -> None:
    """Writes what `semantic_offsets` or `instance_offsets` returns, as the .mat file that the original reads, too."""
    content = {
        "dir_deg": np.rint((angle + 180) / ANGLE_STEP).astype(np.uint8),
        "depth": distance.astype(np.uint8),
        "deg_reduce": ANGLE_STEP,
    }
    with replacing(path) as temporary:
        scipy.io.savemat(temporary, content, appendmat=False, do_compression=True)


def read_instances(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Reads uint16 (H, W) instance ids from a PNG of 16 bits, as Cityscapes' instanceIds; `size` is (H, W)."""
    try:
        file = Stored(read_bytes(path), str(path))
        ids = file.pixels() if file.mode in ("I;16", "I", "L") else None
    except InputError as error:
        raise InputError(f"cannot read a map of instance ids from {path}: {error}") from error
    if ids is None or ids.min() < 0 or ids.max() > np.iinfo(np.uint16).max:
        raise InputError(
            f"{path} is an image of mode {file.mode}, not a map of instance ids: these have one channel of 16 bits"
        )
    _check_sizes(path, ids.shape, size)
    return ids.astype(np.uint16)


def _check_sizes(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
    if found != size:
        raise InputError(f"{path} is of size {found}, its label {size} (height, width)")
