"""The training loop: from a config and a folder to a trained checkpoint."""

from __future__ import annotations

import functools
import math
import signal
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from openseg_jax import data, losses, models, sharding
from openseg_jax.checkpoints import Checkpoints, Metadata, load
from openseg_jax.data.normalize import Normalization
from openseg_jax.data.on_device import RawSamples, augment, canvas_for
from openseg_jax.data.pipeline import TrainSamples, train_batches
from openseg_jax.data.transforms.recipes import make_chain, make_collate
from openseg_jax.errors import InputError, RunError
from openseg_jax.evaluation.inference import Evaluator
from openseg_jax.evaluation.metrics import scores
from openseg_jax.training.optimizer import make_optimizer, poly_schedule
from openseg_jax.training.reporting import Reporter
from openseg_jax.training.step import make_state, make_train_step


def train(config: ConfigDict, workdir: str | Path) -> dict[str, float]:
    """Trains, or continues an earlier run in `workdir`; returns the scores of the last validation.

    In workdir: latest/ (what continuing takes), best/ (the net with the best validation mIoU), metrics.jsonl,
    events/ (TensorBoard), config.json. SIGTERM saves and returns. Raises RunError if the loss becomes NaN.
    """
    workdir = Path(workdir).expanduser()

    # --- what there is ---
    mesh = sharding.make_mesh(config.mesh.spatial)
    sharding.check_batch(mesh, "train.batch_size", config.train.batch_size, height=config.augment.crop[0])
    train_source = data.make_train_source(config.data)
    val_source = data.make_source(config.data, config.data.val_split)
    classes = data.class_table(config.data)
    data.check_before_training(config.data, classes)
    samples, prepare = _samples(config, train_source, classes)
    normalization = Normalization(**config.normalization)
    model = make_model(config, len(classes))
    evaluator = Evaluator(model, config.eval, val_source, normalization, mesh)
    schedule = poly_schedule(config.optimizer.learning_rate, config.train.steps, config.optimizer.power)
    optimizer = make_optimizer(config.optimizer, schedule)

    # --- the state: new, or from where an earlier run stopped ---
    latest, best = Checkpoints(workdir / "latest"), Checkpoints(workdir / "best")
    state, best_miou = _start(config, model, optimizer, latest, mesh)
    first_step, steps = int(state["step"]), config.train.steps

    train_step = make_train_step(model, losses.build(config.loss), optimizer, normalization, mesh, config.seed)
    batches = train_batches(
        samples,
        start_step=first_step,
        workers=config.data.workers,
        process=(jax.process_index(), jax.process_count()),
    )
    reporter = _reporter(config, workdir, first_step, mesh)

    def save(checkpoints: Checkpoints, miou: float, training: bool) -> None:
        metadata = Metadata(
            model=model.spec.to_dict(),
            normalization=normalization,
            classes=classes,
            step=step,
            config=config.to_dict(),
            extra={"miou": miou, "best_miou": best_miou},
        )
        variables = {part: state[part] for part in ("params", "batch_stats")}
        rest = {part: state[part] for part in ("step", "opt_state")}
        checkpoints.save(variables, metadata, rest if training else None)

    # --- the loop: nothing in it waits for the device, except that metrics are read one step late ---
    result: dict[str, float] = {}
    pending: list[tuple[int, dict[str, jax.Array]]] = []
    with closing(reporter), closing(best), closing(latest), _Sigterm() as sigterm:
        for step in range(first_step + 1, steps + 1):
            state, metrics = train_step(state, prepare(sharding.put_batch(mesh, next(batches))))
            pending.append((step, metrics))
            ending = step == steps or sigterm.received
            validating = (step == steps or step % config.train.eval_every == 0) and not sigterm.received
            saving = ending or validating or step % config.train.save_every == 0

            if step == first_step + 1:
                reporter.compiled(step, _mean(pending), float(schedule(step - 1)))
                pending = []
            elif saving or step % config.train.log_every == 0:
                done, pending = (pending, []) if saving else (pending[:-1], pending[-1:])
                if done:
                    reporter.train(done[-1][0], _mean(done), float(schedule(done[-1][0] - 1)))
            if validating:
                with reporter.interrupted("validating"):
                    result = {k: v for k, v in scores(evaluator.run(_variables(state))).items() if np.ndim(v) == 0}
                reporter.write(step, **{f"val/{name}": value for name, value in result.items()})
                if result["miou"] > best_miou:
                    best_miou = result["miou"]
                    save(best, best_miou, training=False)
            if saving:
                save(latest, result.get("miou", math.nan), training=True)
            if ending:
                break
    return result


def make_model(config: ConfigDict, num_classes: int) -> models.Segmentor:
    """The model of a training config."""
    wanted = config.model
    # A config lists all options of its named model; only those that were changed go on to, maybe, another backbone.
    defaults = models.default_options(wanted.name)
    options = {name: value for name, value in wanted.options.items() if value != defaults.get(name, object())}
    return models.create(
        wanted.name,
        num_classes,
        backbone=wanted.backbone or None,
        norm=wanted.norm,
        dtype=wanted.dtype,
        **options,
    )


def _samples(config: ConfigDict, source, classes: data.ClassTable):
    """The sequence of training samples, and what turns its batches, on the device, into those of a training step."""
    chain, collate = make_chain(config.augment, classes), make_collate(config.augment)
    samples = TrainSamples(source, chain, collate, config.seed, config.train.batch_size)
    if not config.augment.on_device:
        return samples, lambda batch: batch
    if collate.mode != "fix_size":
        raise InputError("augment.on_device gives batches of one size: leave augment.collate.mode at fix_size")
    raw = RawSamples(samples, canvas_for(config.augment))
    return raw, functools.partial(augment, size=collate.size, swap=classes.flip_pairs)


def with_pretrained(variables: dict, model: models.Segmentor, config: ConfigDict) -> dict:
    """Replaces the backbone's variables, or with pretrained.parts="all" every one, by those of a checkpoint."""
    if not config.pretrained.checkpoint:
        return variables
    _, loaded, metadata = load(config.pretrained.checkpoint)
    if config.pretrained.parts not in ("backbone", "all"):
        raise InputError(f'pretrained.parts must be "backbone" or "all", found {config.pretrained.parts!r}')
    if config.pretrained.parts == "backbone":
        loaded = {name: variables[name] | {"backbone": tree["backbone"]} for name, tree in loaded.items()}
    shapes = [jax.tree.map(np.shape, tree) for tree in (loaded, variables)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{config.pretrained.checkpoint} holds {metadata.model}, of which the {config.pretrained.parts} does not "
            f"fit {model.spec.to_dict()}"
        )
    return loaded


def _start(config: ConfigDict, model, optimizer, checkpoints: Checkpoints, mesh) -> tuple[dict, float]:
    """State and best mIoU so far: new, or of the newest checkpoint, whatever mesh that was saved from."""
    if checkpoints.latest_step() is None:
        variables = with_pretrained(models.init(model, config.seed), model, config)
        return sharding.put_replicated(mesh, make_state(variables, optimizer)), -1.0
    found = checkpoints.read_metadata().model
    if models.create(**found).spec != model.spec:
        raise InputError(
            f"{checkpoints.folder} holds a run of {found}, this config is of {model.spec.to_dict()}: "
            "take another --workdir, or delete the folder"
        )
    shapes = jax.eval_shape(lambda v: make_state(v, optimizer), models.shapes(model))
    everywhere = sharding.replicated(mesh)
    shapes = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=everywhere), shapes)
    rest = {part: shapes.pop(part) for part in ("step", "opt_state")}
    variables, rest, metadata = checkpoints.restore(shapes, rest)
    return {**variables, **rest}, metadata.extra["best_miou"]


def _reporter(config: ConfigDict, workdir: Path, first_step: int, mesh) -> Reporter:
    is_first = jax.process_index() == 0
    if is_first:
        (workdir / "config.json").write_text(config.to_json_best_effort(indent=2) + "\n")
    reporter = Reporter(workdir, first_step, config.train.steps, config.train.batch_size, active=is_first)
    if config.mesh.spatial > 1 and not sharding.splits_rows(mesh, config.augment.crop[0]):
        reporter.console.print(
            f"mesh.spatial={config.mesh.spatial} brings nothing: crops of fewer than "
            f"{config.mesh.spatial * sharding.MIN_ROWS} rows are not split"
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
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}


class _Sigterm:
    """Remembers whether the process was asked to end, so that the loop can save first."""

    def __enter__(self):
        self.received = False
        try:
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        except ValueError:  # not the main thread: whoever owns the process handles its signals
            self._previous = None
        return self

    def _handle(self, *_):
        self.received = True

    def __exit__(self, *_):
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
