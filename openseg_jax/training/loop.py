"""The training loop: from a config and a folder to a trained checkpoint."""

from __future__ import annotations

import contextlib
import math
import signal
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from openseg_jax import models, sharding
from openseg_jax.checkpoints import Checkpoints, Metadata
from openseg_jax.data.pipeline import train_batches
from openseg_jax.errors import InputError, RunError
from openseg_jax.training.averaging import batch_statistics
from openseg_jax.training.pretrained import with_pretrained
from openseg_jax.training.profiling import Profiler
from openseg_jax.training.reporting import Reporter
from openseg_jax.training.schedules import after_validation
from openseg_jax.training.setup import Run, make_run
from openseg_jax.training.step import make_state


def train(config: ConfigDict, workdir: str | Path, profile_steps: tuple[int, int] | None = None) -> dict[str, float]:
    """Trains, or continues an earlier run in `workdir`; returns the scores of the last validation.

    In workdir: latest/ (what continuing takes), best/ (the net with the best validation score), metrics.jsonl and .csv,
    events/ (TensorBoard), config.json, report.html. SIGTERM saves and returns. profile_steps: first and last step of a
    profile, in workdir/profile. Raises RunError if the loss becomes NaN, or if a checkpoint cannot be written.
    """
    workdir = Path(workdir).expanduser()
    run = make_run(config)
    train_step, evaluator, steps = run.step, run.evaluator, config.train.steps

    # --- the state: new, or from where an earlier run stopped ---
    latest, best = Checkpoints(workdir / "latest"), Checkpoints(workdir / "best")
    state, metadata, origin = _start(run, latest)
    best_score, first_step = metadata.get("best_score", -1.0), int(state["step"])
    batches = train_batches(
        run.samples,
        start_step=first_step,
        workers=config.data.workers,
        process=(jax.process_index(), jax.process_count()),
    )
    reporter = _reporter(run, workdir, first_step)
    if origin:
        reporter.console.print(origin)

    def save(checkpoints: Checkpoints, variables: dict, rest: dict | None = None, **extra) -> None:
        extra |= {"score": result.get(evaluator.main_score, math.nan), "best_score": best_score}
        metadata = Metadata(
            model=run.model.spec.to_dict(),
            normalization=run.normalization,
            classes=run.classes,
            step=step,
            config=config.to_dict(),
            extra=extra | {"score_name": evaluator.main_score},
        )
        checkpoints.save(variables, metadata, rest)

    def validate(state: dict) -> dict:
        """Keeps the net if it is the best so far; returns the state, in which a plateau has its effect."""
        nonlocal result, best_score
        variables = state.get("ema", _variables(state))
        with reporter.interrupted("validating"):
            shown = config.train.log_images
            found = evaluator.run(variables, on_prediction=reporter.keep_prediction, first=shown)
        result = evaluator.summary(found)
        reporter.validated(step, found)
        score = result[evaluator.main_score]
        if score > best_score:
            best_score = score
            save(best, variables)
        if "plateau" not in state:
            return state
        after = after_validation(config.schedule.plateau, state["plateau"], score)
        return state | {"plateau": sharding.put(train_step.shardings["plateau"], after)}

    # --- the loop: nothing in it waits for the device, except that metrics are read one step late ---
    result: dict[str, float] = {}
    pending: list[tuple[int, dict[str, jax.Array]]] = []
    step = first_step
    profiler = Profiler(workdir / "profile", profile_steps, reporter.console)
    with closing(reporter), closing(best), closing(latest), closing(profiler), _Sigterm() as sigterm:
        if metadata.get("unvalidated"):
            state = validate(state)
        leaves = jax.tree.leaves(state)
        del state  # the first step consumes it
        for step in range(first_step + 1, steps + 1):
            profiler.before(step)
            leaves, metrics = train_step(leaves, run.prepare(sharding.put_batch(run.mesh, next(batches))))
            profiler.after(step, metrics)
            pending.append((step, metrics))
            asked = sigterm.asks(step)
            due = step == steps or step % config.train.eval_every == 0
            saving = asked or due or step % config.train.save_every == 0

            if step == first_step + 1:
                reporter.compiled(step, _mean(pending))
                pending = []
            elif saving or step % config.train.log_every == 0:
                done, pending = (pending, []) if saving else (pending[:-1], pending[-1:])
                if done:
                    reporter.train(done[-1][0], _mean(done))
            if not saving:
                continue
            state = train_step.unpack(leaves)
            if step == steps and "swa" in state:
                with reporter.interrupted("updating batch statistics"):
                    state |= _averaged(run, state, batches)
            if due and not asked:
                state = validate(state)
            rest = {part: value for part, value in state.items() if part not in ("params", "batch_stats")}
            save(latest, _variables(state), rest, unvalidated=due and asked)
            leaves = jax.tree.leaves(state)
            if asked:
                reporter.console.print(f"asked to end: saved after step {step}; start again to continue")
                break
    return result


def _start(run: Run, checkpoints: Checkpoints) -> tuple[dict, dict, str]:
    """State, what else is known of it, and where it is from: new, or of the newest checkpoint, whatever its devices."""
    if checkpoints.latest_step() is None:
        variables, origin = with_pretrained(models.init(run.model, run.config.seed), run.model, run.config.pretrained)
        return sharding.put(run.step.shardings, make_state(variables, run.optimizer, run.config)), {}, origin
    metadata = checkpoints.read_metadata()
    if models.create(**metadata.model).spec != run.model.spec:
        raise InputError(
            f"{checkpoints.folder} holds a run of {metadata.model}, this config is of {run.model.spec.to_dict()}: "
            "take another --workdir, or delete the folder"
        )
    rest = dict(run.step.shapes)
    variables = {part: rest.pop(part) for part in ("params", "batch_stats")}
    variables, rest, metadata = checkpoints.restore(variables, rest)
    origin = f"continuing after step {metadata.step}, from {checkpoints.folder}"
    return {**variables, **rest}, metadata.extra, origin


def _averaged(run: Run, state: dict, batches) -> dict:
    """The averaged weights in place of the last ones, with batch statistics of their own."""
    params = state["swa"]["params"]
    count = -(-len(run.train_source) // run.config.train.batch_size)
    prepared = (run.prepare(sharding.put_batch(run.mesh, batch)) for batch in batches)
    stats = batch_statistics(run.model, params, prepared, count, run.normalization)
    placed = {part: run.step.shardings[part] for part in ("params", "batch_stats")}
    return jax.device_put({"params": params, "batch_stats": stats}, placed)


def _reporter(run: Run, workdir: Path, first_step: int) -> Reporter:
    reporter = Reporter(workdir, first_step, run.config, run.val_source, run.classes, run.evaluator)
    spatial, height = run.config.mesh.spatial, run.config.augment.crop[0]
    if spatial > 1 and not sharding.splits_rows(run.mesh, height):
        reporter.console.print(
            f"mesh.spatial={spatial} brings nothing: crops are split from {spatial * sharding.MIN_ROWS} rows on"
        )
    return reporter


def _variables(state: dict) -> dict:
    return {part: state[part] for part in ("params", "batch_stats")}


def _mean(pending: list[tuple[int, dict[str, jax.Array]]]) -> dict[str, float]:
    """The mean of some steps' metrics; waits for the last of them. Of a step that was no number, none is kept."""
    values = [jax.device_get(metrics) for _, metrics in pending]
    for (step, _), value in zip(pending, values, strict=True):
        for name, number in value.items():
            if not math.isfinite(number):
                raise RunError(
                    f"the {name.replace('_', ' ')} became {number} at step {step}; the last checkpoint is from before: "
                    "lower the learning rate, or look at the data of this step"
                )
    taken = [value for value in values if not value.get("skipped")] or values
    mean = {name: float(np.mean([value[name] for value in taken])) for name in values[0]}
    if "skipped" in mean:
        mean["skipped"] = float(sum(value["skipped"] for value in values))
    return mean


class _Sigterm:
    """Whether the run was asked to end, so that the loop can save first.

    Of several processes, of which each may be told at another step, JAX's preemption service finds a step that all of
    them have yet to reach.
    """

    def __enter__(self):
        self._received, self._previous = False, None
        if jax.process_count() == 1:
            with contextlib.suppress(ValueError):  # not the main thread: whoever owns the process handles its signals
                self._previous = signal.signal(signal.SIGTERM, self._handle)
        return self

    def asks(self, step: int) -> bool:
        if jax.process_count() == 1:
            return self._received
        return multihost_utils.reached_preemption_sync_point(step)

    def _handle(self, *_):
        self._received = True

    def __exit__(self, *_):
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
