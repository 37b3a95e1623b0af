"""Trains a net, or continues a training run.

    openseg train --config=camvid:hrnet_w18_ocr --workdir=runs/camvid --config.data.root=PATH

Any field of the config can be changed on the command line: --config.train.steps=2000. Started again with the same
--workdir, a run goes on where it was. --dry_run shows what a run would be. In a checkout, `python train.py` does the
same. docs/training.md tells more.
"""

from openseg_jax.cli.arguments import add_command

SCORES = {"miou": "mIoU", "direction_accuracy": "direction accuracy"}


def add(commands) -> None:
    command = add_command(commands, "train", __doc__, run)
    command.add_config()
    command.add_argument(
        "--workdir", required=True, metavar="DIR", help="checkpoints, metrics, TensorBoard events and report of the run"
    )
    command.add_argument(
        "--dry_run", action="store_true", help="show config, model, schedule, one batch and memory, and stop"
    )
    command.add_argument(
        "--compile",
        action="switch",
        default=True,
        help="with --dry_run, also compile the step for a GPU, if openseg_jax[gpu-compile] or [cuda] is installed",
    )
    command.add_argument(
        "--profile_steps", metavar="FIRST:LAST", help="steps of which a profile is written, such as 10:15"
    )
    command.add_processes()


def run(arguments) -> None:
    from openseg_jax.config import load
    from openseg_jax.training.dry_run import dry_run
    from openseg_jax.training.loop import train
    from openseg_jax.training.profiling import parse_steps

    config = load(arguments.config, arguments.changes)
    if arguments.dry_run:
        dry_run(config, arguments.workdir, arguments.compile)
        return
    result = train(config, arguments.workdir, parse_steps(arguments.profile_steps))
    if result:
        name = next(name for name in SCORES if name in result)
        print(f"validation {SCORES[name]} {100 * result[name]:.2f} %, checkpoints in {arguments.workdir}")
