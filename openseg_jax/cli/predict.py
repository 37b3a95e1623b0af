"""Segments images of your own: files, folders, patterns, lists of files, videos.

    openseg predict --checkpoint=DIR street.jpg holiday/ "trip/*.png" --out=DIR
    openseg predict --checkpoint=DIR drive.mp4 --out=DIR

OUT receives label/NAME.png, a palette image whose values are class ids, color/NAME.png and overlay/NAME.jpg; of a
video, NAME.mp4 with the overlays. Images in subfolders of a folder keep them in OUT. A file ending in .txt is a list of
files, one per line. Files that cannot be read are left out and named at the end. Started again, an interrupted run
goes on. Images are tested as in the validations of the checkpoint's run, unless an option says otherwise.
"""

from pathlib import Path

from openseg_jax.cli.arguments import CHECKPOINT, add_command, size


def add(commands) -> None:
    command = add_command(commands, "predict", __doc__, run)
    command.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder, a pattern, a list or a video")
    command.add_argument("--checkpoint", required=True, **CHECKPOINT)
    command.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    command.add_argument("--probabilities", action="store_true", help="also write prob/NAME.npy, float16 (H, W, K)")
    command.add_argument("--frames", action="store_true", help="also write label/NAME/000000.png, ... of videos")
    command.add_argument("--batch_size", type=int, default=0, help="images at a time; 0 is one per device")
    command.add_argument("--min_side", type=int, help="resize to this shorter side; 0 keeps the size")
    command.add_argument("--protocol", help="single, flip, ms, ms_flip, crops, ...: docs/protocols.md")
    command.add_argument("--crop", type=size, metavar="HxW", help="the window of the protocol crops")
    command.add_argument("--crop_stride", type=size, metavar="HxW", help="between windows (their size)")


def run(arguments) -> None:
    from openseg_jax.predict import predict_images

    settings = {name: getattr(arguments, name) for name in ("min_side", "protocol", "crop", "crop_stride")}
    options = {name: value for name, value in settings.items() if value is not None}
    options |= {name: getattr(arguments, name) for name in ("probabilities", "frames")}
    predict_images(arguments.checkpoint, arguments.images, arguments.out, arguments.batch_size, **options)
