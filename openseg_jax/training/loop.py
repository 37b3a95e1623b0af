"""The training loop: a config and a folder in, a trained checkpoint out."""

import contextlib
import dataclasses
import math
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from openseg_jax import models, peers, sharding
from openseg_jax.agreement import changes
from openseg_jax.checkpoints import Checkpoints, Metadata, read_metadata
from openseg_jax.config import Config, TrainSettings, typed
from openseg_jax.data.pipeline import train_batches
from openseg_jax.data.workers import WorkerError
from openseg_jax.errors import InputError, RunError
from openseg_jax.training.averaging import batch_statistics
from openseg_jax.training.pretrained import with_pretrained
from openseg_jax.training.profiling import Profiler
from openseg_jax.training.run_log import RunLog, claimed
from openseg_jax.training.setup import Run, make_run
from openseg_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Standing:
    """How well a run does.

    Attributes:
        scores: Those of the last validation, {} before the first.
        best: The best main score.
        waited: The number of validations since then.
    """

    scores: dict[str, float]
    best: float
    waited: int = 0

    @classmethod
    def of(cls, known: dict) -> "Standing":
        """Returns what a checkpoint knows, of the scores the main one."""
        score, waited = known.get("score", math.nan), known.get("waited", 0)
        scores = {known["score_name"]: score} if math.isfinite(score) else {}
        return cls(scores, known.get("best_score", -1.0), waited)


def train(config: Config, workdir: str | Path, profile_steps: tuple[int, int] | None = None) -> dict[str, float]:
    """Trains a net, or continues an earlier run in `workdir`.

    The folder gets latest/ (from which a run continues), best/ (the net with the best validation score), metrics.jsonl
    and metrics.csv, events/ (TensorBoard), config.json, validation.json, overlay/ and report.html. On SIGTERM the run
    saves and returns.

    Args:
        config: What to train, as a Config, a ConfigDict or a dict.
        workdir: The folder of the run.
        profile_steps: The first and the last step to profile, into workdir/profile.

    Returns:
        The scores of the last validation, {} if there was none.

    Raises:
        InputError: The config, the data, the devices or the folder do not fit each other, or another run is in it.
        RunError: The loss became NaN, a checkpoint could not be written, or a process that loads was killed.
    """
    workdir = Path(workdir).expanduser()
    run = make_run(typed(config))
    with claimed(workdir), peers.says_when_lost(lambda: _saved(workdir)):
        return _train(run, workdir, profile_steps)


def _train(run: Run, workdir: Path, profile_steps: tuple[int, int] | None) -> dict[str, float]:
    config, settings = run.config, run.config.train
    latest, best = Checkpoints(workdir / "latest"), Checkpoints(workdir / "best")
    state, known, origin = _start(run, latest)
    first, standing = int(state.step), Standing.of(known)
    process = jax.process_index(), jax.process_count()
    loaded = train_batches(run.samples, start_step=first, workers=config.data.workers, process=process)
    batches = _explained(loaded, workdir)
    log = RunLog(workdir, first, config)
    if origin:
        log.console.print(f"{origin}: the run has ended" if _is_over(settings, first, standing) else origin)
    spatial = config.mesh.spatial
    if spatial > 1 and not sharding.splits_rows(run.mesh, config.augment.crop[0]):
        rows = spatial * sharding.MIN_ROWS
        log.console.print(f"mesh.spatial={spatial} brings nothing: crops are split over devices from {rows} rows on")
    profiler = Profiler(workdir / "profile", profile_steps, log.console)
    with closing(log), closing(best), closing(latest), closing(profiler), closing(batches), _sigterm() as asked_after:
        if known.get("unvalidated"):
            state, standing = _validate(run, state, standing, best, log)
        leaves = run.step.pack(state)
        del state  # the first step consumes it
        # Nothing in this loop waits for the device: the log reads the metrics of a step after the next one has begun.
        for step in range(first + 1, 1 + (first if _is_over(settings, first, standing) else settings.steps)):
            profiler.before(step)
            leaves, metrics = run.step(leaves, run.prepare(sharding.put_batch(run.mesh, next(batches))))
            profiler.after(step, metrics)
            asked = asked_after(step)
            due = step == settings.steps or step % settings.eval_every == 0
            saving = asked or due or step % settings.save_every == 0
            log.step(step, metrics, up_to_now=saving)
            if not saving:
                continue
            state = run.step.unpack(leaves)
            if step == settings.steps and state.swa is not None:
                with log.pause("updating batch statistics"):
                    state = _averaged(run, state, batches)
            if due and not asked:
                state, standing = _validate(run, state, standing, best, log)
            _save(latest, run, state, standing, unvalidated=due and asked)
            leaves = run.step.pack(state)
            if asked:
                log.console.print(f"asked to end: saved after step {step}; start again to continue")
                break
            if step < settings.steps and _is_over(settings, step, standing):
                log.console.print(f"ended after step {step}: the last {standing.waited} validations were no better")
                break
    return standing.scores


def _is_over(settings: TrainSettings, step: int, standing: Standing) -> bool:
    """Whether a run ends after a step: it was the last one, or validations have not been better for too long."""
    return step >= settings.steps or standing.waited >= settings.patience > 0


def _explained(batches: Generator[dict, None, None], workdir: Path) -> Generator[dict, None, None]:
    """Says, if a process that loads was killed, what is saved."""
    with closing(batches):
        try:
            yield from batches
        except WorkerError as error:
            raise RunError(
                f"{error}; {_saved(workdir)}: run the same command again, with fewer --config.data.workers if memory "
                "is short, and it continues from there"
            ) from error


def _saved(workdir: Path) -> str:
    steps = [int(path.name) for path in (workdir / "latest").glob("*") if path.name.isdigit()]
    return f"the last checkpoint is of step {max(steps)}" if steps else "no checkpoint was saved yet"


def _start(run: Run, checkpoints: Checkpoints) -> tuple[TrainState, dict, str]:
    """Returns a new state, or that of the newest checkpoint on today's devices, its metadata, and where it is from."""
    config = run.config
    if checkpoints.latest_step() is None:
        variables, origin = with_pretrained(
            models.init(run.model, config.seed), run.model, config.pretrained, run.classes
        )
        return sharding.put(run.step.shardings, run.step.init(variables)), {}, origin
    metadata = read_metadata(checkpoints.folder)
    if models.create(**metadata.model).spec != run.model.spec:
        raise InputError(
            f"{checkpoints.folder} holds a run of {metadata.model}, this config is of {run.model.spec.to_dict()}: "
            "take another --workdir, or delete the folder"
        )
    if metadata.classes and metadata.classes.names != run.classes.names:
        raise InputError(
            f"{checkpoints.folder} holds a run for the classes {', '.join(metadata.classes.names)}, this config is for "
            f"{', '.join(run.classes.names)}: take another --workdir, or the class table of before"
        )
    changed = changes(config, metadata)
    changed = f"; changed are {', '.join(changed)}" if changed else ""
    try:
        variables, training, metadata = checkpoints.restore(*run.step.shapes.to_parts())
    except InputError as error:
        raise InputError(f"{error}{changed}") from error
    origin = f"continuing after step {metadata.step}, from {checkpoints.folder}{changed}"
    return TrainState.from_parts(variables, training), metadata.extra, origin


def _validate(
    run: Run, state: TrainState, standing: Standing, best: Checkpoints, log: RunLog
) -> tuple[TrainState, Standing]:
    """Scores the net and saves it if it is the best so far; returns the state with the plateau's new factor."""
    averaged = state if state.ema is None else dataclasses.replace(state, **state.ema)
    with log.pause("validating"):
        found = run.validation.run(averaged.variables)
    log.validated(int(state.step), found)
    score = found.scores[run.validation.main_score]
    is_best = score > standing.best
    standing = Standing(found.scores, *((score, 0) if is_best else (standing.best, standing.waited + 1)))
    if is_best:
        _save(best, run, averaged, standing, weights_only=True)
    if state.plateau is not None:
        plateau = state.plateau.after(score, run.config.schedule.plateau)
        state = dataclasses.replace(state, plateau=sharding.put(run.step.shardings.plateau, plateau))
    return state, standing


def _save(
    checkpoints: Checkpoints, run: Run, state: TrainState, standing: Standing, *, weights_only: bool = False, **extra
) -> None:
    name = run.validation.main_score
    extra |= {"score": standing.scores.get(name, math.nan), "best_score": standing.best, "score_name": name}
    extra |= {"waited": standing.waited}
    spec, config = run.model.spec.to_dict(), run.config.to_dict()
    metadata = Metadata(spec, run.normalization, run.classes, step=int(state.step), config=config, extra=extra)
    variables, training = state.to_parts()
    checkpoints.save(variables, metadata, None if weights_only else training)


def _averaged(run: Run, state: TrainState, batches: Iterator[dict]) -> TrainState:
    """Returns the state with the averaged weights in place of the last ones, and batch statistics of their own."""
    count = -(-len(run.train_source) // run.config.train.batch_size)
    prepared = (run.prepare(sharding.put_batch(run.mesh, batch)) for batch in batches)
    stats = batch_statistics(run.model, state.swa.params, prepared, count, run.normalization)
    averaged = dataclasses.replace(state, params=state.swa.params, batch_stats=stats)
    return jax.device_put(averaged, run.step.shardings)


@contextlib.contextmanager
def _sigterm() -> Iterator[Callable[[int], bool]]:
    """Yields a function that returns whether a SIGTERM asks to end after a step, so that the loop can save first.

    Several processes may each receive it at another step; JAX's preemption service finds a step that all of them have
    yet to reach.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    received, previous = threading.Event(), None
    with contextlib.suppress(ValueError):  # not the main thread: whoever owns the process handles its signals
        previous = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        yield lambda step: received.is_set()
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
