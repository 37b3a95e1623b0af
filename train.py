"""Trains a net, or continues a training run.

Example:
    python train.py --config=configs/camvid.py:hrnet_w18_ocr --workdir=runs/camvid --config.data.root=PATH

Any field of the config can be changed on the command line: --config.train.steps=2000. Started again with the same
--workdir, a run goes on where it was. --dry_run shows what a run would be. docs/training.md tells more.
"""

from absl import flags

from openseg_jax.cli import commands

CONFIG = commands.define_config_flag()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, TensorBoard events, report.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Show config, model, schedule, one batch and memory, and stop.")
PROFILE = flags.DEFINE_string("profile_steps", None, "FIRST:LAST steps of which to write a profile, such as 10:15.")


def main() -> None:
    from openseg_jax.training.dry_run import dry_run
    from openseg_jax.training.loop import train
    from openseg_jax.training.profiling import parse_steps

    commands.require("workdir", WORKDIR.value)
    if DRY_RUN.value:
        dry_run(CONFIG.value, WORKDIR.value)
        return
    result = train(CONFIG.value, WORKDIR.value, parse_steps(PROFILE.value))
    if result:
        name = next(name for name in commands.SCORES if name in result)
        print(f"validation {commands.SCORES[name]} {100 * result[name]:.2f} %, checkpoints in {WORKDIR.value}")


if __name__ == "__main__":
    commands.run(main, __doc__)
