"""Measures a checkpoint on a data set: mIoU, a table per class, a JSON report, and on request the predictions.

Example:
    python eval.py --config=configs/camvid.py --checkpoint=runs/camvid --config.data.root=PATH --out=report

The config says which data and, by eval.protocol, how images are tested; the net, its normalisation and its classes come
with the checkpoint. --out receives report.json, report.html, images.csv, label/NAME.png (ids as in the masks of the
data set), color/NAME.png and overlay/NAME.jpg (prediction beside the truth). Started again, an interrupted evaluation
goes on.
"""

from absl import flags

from openseg_jax.cli import commands

CONFIG = commands.define_config_flag()
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Folder of a run, or of an imported checkpoint.")
SPLIT = flags.DEFINE_string("split", None, "Split of the data set; the config's validation split if not given.")
OUT = flags.DEFINE_string("out", None, "Folder for reports, label PNGs and overlays.")
RESUME = flags.DEFINE_bool("resume", True, "Go on after an interrupted evaluation into the same --out.")
PROBABILITIES = flags.DEFINE_bool("probabilities", False, "Also write prob/NAME.npy, float16 (H, W, K).")
BOUNDARIES = flags.DEFINE_bool("boundaries", False, "Also score boundaries: F-score and boundary IoU.")
LEGACY = flags.DEFINE_bool("legacy_scores", False, "Also print what the original's own evaluators would have.")
CITYSCAPES = flags.DEFINE_bool("cityscapes_scripts", False, "Also score by the package cityscapesScripts; needs --out.")


def main() -> None:
    from openseg_jax.evaluation.evaluate import evaluate

    commands.require("checkpoint", CHECKPOINT.value)
    evaluate(
        CONFIG.value,
        CHECKPOINT.value,
        SPLIT.value,
        OUT.value,
        resume=RESUME.value,
        probabilities=PROBABILITIES.value,
        boundaries=BOUNDARIES.value,
        legacy=LEGACY.value,
        cityscapes=CITYSCAPES.value,
    )


if __name__ == "__main__":
    commands.run(main, __doc__)
