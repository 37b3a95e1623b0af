"""Measures a checkpoint on a data set: mIoU, a table per class, a JSON report, and on request the predictions.

Example:
    python eval.py --config=configs/camvid.py --checkpoint=runs/camvid --config.data.root=PATH --out=report

The config says which data; the net, its normalisation and its classes come with the checkpoint. --out receives
report.json, label/NAME.png (ids as in the data set's masks) and overlay/NAME.jpg (prediction beside the truth).
"""

from absl import flags

from openseg_jax import commands

CONFIG = commands.define_config_flag()
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Folder of a run, or of an imported checkpoint.")
SPLIT = flags.DEFINE_string("split", None, "Split of the data set; the config's validation split if not given.")
OUT = flags.DEFINE_string("out", None, "Folder for report.json, label PNGs and overlays.")


def main() -> None:
    from openseg_jax.evaluation.evaluate import evaluate

    commands.require("checkpoint", CHECKPOINT.value)
    evaluate(CONFIG.value, CHECKPOINT.value, SPLIT.value, OUT.value)


if __name__ == "__main__":
    commands.run(main, __doc__)
