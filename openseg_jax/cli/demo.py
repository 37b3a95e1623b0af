"""Trains a small net on synthetic textures and evaluates it, in two minutes on a CPU.

    openseg demo --out demo

DIR receives a training run with its checkpoints, and in DIR/report the scores and, in overlay/, each prediction beside
the ground truth. Nothing is downloaded.
"""

from pathlib import Path

from openseg_jax.cli.arguments import add_command


def add(commands) -> None:
    command = add_command(commands, "demo", __doc__, run)
    command.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="a new folder (%(default)s)")
    command.add_argument("--steps", type=int, metavar="N", help="how long to train (as long as the recipe says)")


def run(arguments) -> None:
    from openseg_jax.config import load
    from openseg_jax.evaluation.evaluate import evaluate
    from openseg_jax.training.loop import train

    steps = arguments.steps
    changes = [] if steps is None else [f"--config.train.{name}={steps}" for name in ("steps", "eval_every")]
    config = load("synthetic", changes)
    train(config, str(arguments.out))
    evaluate(config, str(arguments.out), None, str(arguments.out / "report"))
    print(f"Predictions beside the ground truth are in {arguments.out / 'report' / 'overlay'}")
