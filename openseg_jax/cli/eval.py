"""Measures a checkpoint on a data set: mIoU, a table per class, a JSON report, and on request the predictions.

    openseg eval --config=camvid --checkpoint=runs/camvid --config.data.root=PATH --out=report

The config says which data and, by eval.protocol, how images are tested; the net, its normalisation and its classes come
with the checkpoint. --out receives report.json, report.html, images.csv, label/NAME.png (ids as in the masks of the
data set), color/NAME.png and overlay/NAME.jpg (prediction beside the ground truth). Started again, an interrupted
evaluation goes on. In a checkout, `python eval.py` does the same.
"""

from openseg_jax.cli.arguments import CHECKPOINT, add_command


def add(commands) -> None:
    command = add_command(commands, "eval", __doc__, run)
    command.add_config()
    command.add_argument("--checkpoint", required=True, **CHECKPOINT)
    command.add_argument("--split", help="split of the data set (the config's validation split)")
    command.add_argument("--out", metavar="DIR", help="folder for reports, label maps and overlays")
    command.add_argument(
        "--resume", action="switch", default=True, help="go on after an interrupted evaluation into the same --out"
    )
    command.add_argument("--probabilities", action="store_true", help="also write prob/NAME.npy, float16 (H, W, K)")
    command.add_argument("--boundaries", action="store_true", help="also score boundaries: F-score and boundary IoU")
    command.add_argument(
        "--legacy_scores", action="store_true", help="also print what the original's own evaluators would have"
    )
    command.add_argument(
        "--cityscapes_scripts", action="store_true", help="also score by the package cityscapesScripts; needs --out"
    )
    command.add_processes()


def run(arguments) -> None:
    from openseg_jax.config import changed_fields, load
    from openseg_jax.evaluation.evaluate import evaluate

    options = {name: getattr(arguments, name) for name in ("resume", "probabilities", "boundaries")}
    options |= {"legacy": arguments.legacy_scores, "cityscapes": arguments.cityscapes_scripts}
    options["given"] = changed_fields(arguments.changes, "eval")
    evaluate(load(arguments.config, arguments.changes), arguments.checkpoint, arguments.split, arguments.out, **options)
