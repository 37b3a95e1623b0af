"""Trains a net, or continues a training run.

Example:
    python train.py --config=configs/camvid.py:hrnet_w18_ocr --workdir=runs/camvid --config.data.root=PATH

Any field of the config can be changed on the command line: --config.train.steps=2000. Started again with the same
--workdir, a run goes on where it was. docs/training.md tells more.
"""

from absl import flags

from openseg_jax import commands

CONFIG = commands.define_config_flag()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, TensorBoard events.")


def main() -> None:
    from openseg_jax.training.loop import train

    commands.require("workdir", WORKDIR.value)
    result = train(CONFIG.value, WORKDIR.value)
    if result:
        print(f"validation mIoU {100 * result['miou']:.2f} %, checkpoints in {WORKDIR.value}")


if __name__ == "__main__":
    commands.run(main, __doc__)
