"""A data set in folders of images and masks: ROOT/SPLIT/image/NAME.jpg with ROOT/SPLIT/label/NAME.png."""

from pathlib import Path

from openseg_jax.data.images import image_files, read_image, read_mask, read_size
from openseg_jax.data.maps import Maps
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable


class FolderSource:
    """Random access to the samples of one split, in the order of their names.

    source[i] is {"image": uint8 (H, W, 3) RGB, "label": uint8 (H, W) train ids, "name": str, ...}. Reading raises
    InputError if a file is damaged, if the sizes differ or if a mask has ids that the class table does not have.

    Args:
        root: The folder of the data set.
        split: The folder of the split in it.
        classes: What the values of the masks mean.
        image_folder: The folder of the images in the split.
        label_folder: The folder of the masks in the split, for example label_edge_void.
        complete: Every image must have a mask and every mask an image. Otherwise the attribute `incomplete` says what
            is left out and why.
        **maps: `maps` and `offset_folder` of `maps.Maps`, which adds further maps to each sample.

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
        complete: bool = True,
        **maps,
    ):
        self.classes = classes
        folder = Path(root).expanduser() / split
        images, masks = _by_stem(folder / image_folder), _by_stem(folder / label_folder)
        self.names = sorted(images.keys() & masks.keys())
        no_mask, no_image = images.keys() - masks.keys(), masks.keys() - images.keys()
        for lonely, what in (
            (no_mask, f"an image but no mask in {label_folder}/"),
            (no_image, f"a mask but no image in {image_folder}/"),
        ):
            if lonely and (complete or not self.names):
                share = f"{len(lonely)} of {len(images | masks)}"
                raise InputError(f"{folder}: {share} have {what} of the same name, such as {min(lonely)}")
        self.incomplete = dict.fromkeys(no_mask, f"has no mask in {folder / label_folder}")
        self.incomplete |= dict.fromkeys(no_image, f"has no image in {folder / image_folder}")
        self.images = [images[name] for name in self.names]
        self.masks = [masks[name] for name in self.names]
        self.further = Maps(classes, folder, **maps)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict:
        image = read_image(self.images[index])
        mask = read_mask(self.masks[index], colors=self.classes.masks == "colors")
        if image.shape[:2] != mask.shape[:2]:
            found, wanted = ("x".join(map(str, x.shape[:2])) for x in (mask, image))
            raise InputError(
                f"{self.masks[index]} is {found} (height x width), its image is {wanted}: "
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
    files = image_files(folder)
    by_stem = {file.stem: file for file in files}
    if len(by_stem) < len(files):
        twice = next(file for file in files if by_stem[file.stem] != file)
        raise InputError(
            f"{folder} holds two files of the name {twice.stem}, {twice.name} and {by_stem[twice.stem].name}: keep one"
        )
    return by_stem
