"""A data set in folders of images and masks: ROOT/SPLIT/image/NAME.jpg with ROOT/SPLIT/label/NAME.png."""

from pathlib import Path

from openseg_jax.data.images import IMAGE_SUFFIXES, read_image, read_mask, read_size
from openseg_jax.data.maps import COMPUTED, Maps
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable


class FolderSource:
    """Random access to the samples of one split, in the order of their names.

    source[i] is {"image": uint8 (H, W, 3) RGB, "label": uint8 (H, W) train ids, "name": str, ...}. Reading raises
    InputError if a file is damaged, if the sizes differ or if a mask has ids that the class table does not have.

    Args:
        root: The folder of the data set.
        split: The name of the split.
        classes: The class table.
        image_folder: The folder of the images in the split.
        label_folder: The folder of the masks in the split, for example label_edge_void.
        maps: Further maps of each sample, see `maps.Maps`.
        offset_folder: Where the map "offset" comes from, see `maps.Maps`.
        complete: Every image must have a mask and every mask an image. Otherwise the attribute `incomplete` says what
            is left out and why.

    Raises:
        InputError: A folder is missing or empty, or an image or a mask lacks its partner.
    """

    def __init__(
        self,
        root: str,
        split: str,
        classes: ClassTable,
        *,
        image_folder: str = "image",
        label_folder: str = "label",
        maps: tuple[str, ...] = (),
        offset_folder: str = COMPUTED,
        complete: bool = True,
    ):
        self.classes = classes
        folder = Path(root).expanduser() / split
        images, masks = _by_stem(folder / image_folder), _by_stem(folder / label_folder)
        for lonely, has, wants in ((images.keys() - masks.keys(), "image", f"mask in {label_folder}/"),
                                   (masks.keys() - images.keys(), "mask", f"image in {image_folder}/")):  # fmt: skip
            if lonely and (complete or not images.keys() & masks.keys()):
                raise InputError(
                    f"{folder}: {len(lonely)} of {len(images | masks)} have an {has} but no {wants} of the same name, "
                    f"such as {min(lonely)}".replace("an mask", "a mask")
                )
        self.incomplete = dict.fromkeys(images.keys() - masks.keys(), f"has no mask in {folder / label_folder}")
        self.incomplete |= dict.fromkeys(masks.keys() - images.keys(), f"has no image in {folder / image_folder}")
        self.names = sorted(images.keys() & masks.keys())
        self.images = [images[name] for name in self.names]
        self.masks = [masks[name] for name in self.names]
        self.further = Maps(maps, offset_folder, classes, folder)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict:
        image = read_image(self.images[index])
        mask = read_mask(self.masks[index], colors=self.classes.masks == "colors")
        if image.shape[:2] != mask.shape[:2]:
            raise InputError(
                f"{self.masks[index]} is {_by(mask.shape[:2])} (height x width), its image is {_by(image.shape[:2])}: "
                "masks must have the size of their image"
            )
        label = self.classes.encode(mask, str(self.masks[index]))
        name = self.names[index]
        return {"image": image, "label": label, "name": name} | self.further(name, label)

    def stamps(self) -> list[list[int]]:
        """Returns the size and the modification time of every file."""
        return [[s.st_size, s.st_mtime_ns] for s in (file.stat() for file in (*self.images, *self.masks))]

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of a sample, from the header of its image."""
        return read_size(self.images[index])


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: a data set is ROOT/SPLIT/image and ROOT/SPLIT/label")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(f"{folder} contains no {', '.join(IMAGE_SUFFIXES)} files")
    by_stem = {file.stem: file for file in files}
    if len(by_stem) < len(files):
        twice = next(file for file in files if by_stem[file.stem] != file)
        raise InputError(
            f"{folder} holds two files of the name {twice.stem}, {twice.name} and {by_stem[twice.stem].name}: keep one"
        )
    return by_stem


def _by(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"
