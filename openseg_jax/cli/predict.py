"""Segments images of your own: files, folders, patterns, lists of files, videos.

    openseg predict --checkpoint=DIR street.jpg holiday/ "trip/*.png" --out=DIR
    openseg predict --checkpoint=DIR drive.mp4 --out=DIR

OUT receives label/NAME.png, a palette image whose values are class ids, color/NAME.png and overlay/NAME.jpg; of a
video, NAME.mp4 with the overlays. A file ending in .txt is a list of files, one per line.
"""

from pathlib import Path

from openseg_jax.cli.arguments import CHECKPOINT, add_command


def add(commands) -> None:
    command = add_command(commands, "predict", __doc__, run)
    command.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder, a pattern, a list or a video")
    command.add_argument("--checkpoint", required=True, **CHECKPOINT)
    command.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    command.add_argument("--batch_size", type=int, default=0, help="images at a time; 0 is one per device")
    command.add_argument("--min_side", type=int, default=0, help="resize to this shorter side; 0 keeps the size")
    command.add_argument("--protocol", default="single", help="flip, ms, ms_flip, ...: docs/protocols.md (%(default)s)")


def run(arguments) -> None:
    from openseg_jax.predict import predict_images

    options = {"min_side": arguments.min_side, "protocol": arguments.protocol}
    predict_images(arguments.checkpoint, arguments.images, arguments.out, arguments.batch_size, **options)
