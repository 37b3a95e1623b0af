"""Shows what a run would be, without running it: `openseg train --config=... --workdir=DIR --dry_run`."""

import json
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import yaml
from rich.table import Table

from openseg_jax import compiled, models, plots, sharding, visualize
from openseg_jax.config import Config, typed
from openseg_jax.console import Console
from openseg_jax.data.images import write_image
from openseg_jax.data.pipeline import train_batches
from openseg_jax.errors import RunError
from openseg_jax.files import write_bytes, write_text
from openseg_jax.training.memory import Memory, estimate_memory
from openseg_jax.training.optimizer import GROUPS, Optimizer
from openseg_jax.training.pretrained import with_pretrained
from openseg_jax.training.setup import Run, make_run

_TARGET = "h200"  # its memory is the largest, so XLA does not trade time for memory


def dry_run(config: Config, workdir: str | Path, compile_step: bool = True) -> None:
    """Prints the config, the model, the parameter groups and how much memory a step takes.

    It writes config.json, schedule.png and batch.jpg (the first training batch with its labels) into workdir/dry_run.
    Memory is estimated. With `compile_step`, if JAX's plugin for CUDA is installed, the step is also compiled for a
    GPU, which need not be there, and the memory of the program is shown. Raises InputError where `train` would.
    """
    config, folder, console = typed(config), Path(workdir).expanduser() / "dry_run", Console(soft_wrap=True)
    run = make_run(config)
    console.print(yaml.safe_dump(json.loads(config.to_json()), sort_keys=False), highlight=False)
    write_text(folder / "config.json", config.to_json() + "\n")
    params = models.shapes(run.model)["params"]
    console.print(_model_table(run, params))
    sources = f"{len(run.train_source)} training and {run.validation.images} validation samples of {run.classes.title}"
    console.print(f"{sources}; devices: {dict(run.mesh.shape)}")
    console.print(_group_table(run.step.optimizer, params))
    write_bytes(folder / "schedule.png", plots.curves(_rates(run.step.optimizer), "learning rate"))
    batch = next(train_batches(run.samples, workers=0, process=(jax.process_index(), jax.process_count())))
    batch = {key: np.asarray(value) for key, value in run.prepare(sharding.put_batch(run.mesh, batch)).items()}
    write_image(folder / "batch.jpg", _examples(run, batch))
    console.print(_memory_table(estimate_memory(run.step, batch, run.mesh.size)))
    if config.pretrained.checkpoint:
        console.print(
            with_pretrained(models.init(run.model, config.seed), run.model, config.pretrained, run.classes)[1]
        )
    console.print(f"config.json, schedule.png and batch.jpg are in {folder}; nothing was trained")
    if compile_step and compiled.installed() and jax.process_index() == 0:
        _show_compiled(run, console)


def _model_table(run: Run, params: dict) -> Table:
    spec = run.model.spec
    table = Table("part", "parameters", "arrays", title=f"{spec.name} on {spec.backbone}, {spec.num_classes} classes")
    parts = {f"{part}.{name}": tree for part in ("backbone", "head") for name, tree in params[part].items()}
    for name, tree in {**parts, "all": params}.items():
        leaves = jax.tree.leaves(tree)
        if name == "all":
            table.add_section()
        table.add_row(name, f"{sum(x.size for x in leaves):,}", str(len(leaves)))
    return table


def _group_table(optimizer: Optimizer, params: dict) -> Table:
    table = Table("group", "parameters", "first rate", "weight decay", title=f"optimizer {optimizer.settings.name}")
    counts = dict.fromkeys((*GROUPS, None), 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        counts[optimizer.group(path)] += leaf.size
    rates = optimizer.rates(0)
    for group in GROUPS:
        decays = optimizer.settings.weight_decay if group.kernels or optimizer.settings.decay_norms_and_biases else 0.0
        name = f"{group.part}, {'kernels' if group.kernels else 'norms and biases'}"
        table.add_row(name, f"{counts[group]:,}", f"{float(rates[group]):.3g}", f"{decays:g}")
    if counts[None]:
        table.add_row("frozen", f"{counts[None]:,}", "-", "-")
    return table


def _rates(optimizer: Optimizer) -> dict[str, list[tuple[int, float]]]:
    """Returns (step, rate) of backbone and head at 400 steps."""
    steps = np.unique(np.linspace(0, optimizer.steps - 1, 400).astype(int))
    rates = jax.vmap(optimizer.rates)(jnp.asarray(steps))
    return {group.part: list(zip(steps, np.asarray(rates[group]), strict=True)) for group in GROUPS if group.kernels}


def _examples(run: Run, batch: dict, most: int = 8) -> np.ndarray:
    """Returns the first images of a batch, each beside its label map."""
    rows = []
    for image, label in zip(batch["image"][:most], batch["label"][:most], strict=True):
        pair = visualize.side_by_side(image, visualize.overlay(image, label, run.classes))
        scale = min(1, 1200 / pair.shape[1])
        rows.append(cv2.resize(pair, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return np.concatenate(rows)


def _memory_table(memory: Memory) -> Table:
    table = Table("on one device", "GiB", title="memory, estimated")
    rows = {"state": memory.state, "activations": memory.kept, "gradients, after the activations": memory.gradients}
    for name, size in (rows | {"total": memory.total}).items():
        table.add_row(name, f"{size / 2**30:.2f}")
    return table


def _show_compiled(run: Run, console: Console) -> None:
    """Compiles the step, and prints how much memory the program takes."""
    count = run.mesh.size
    console.print(f"compiling the step for {count} x {_TARGET}; this takes minutes for a large net (--nocompile: no)")
    try:
        found = compiled.compile_program(run.config, "train", target=_TARGET, devices=count)
    except RunError as error:
        console.print(f"{error}; the estimate is what there is")
        return
    console.print(
        f"compiled in {found['compile_s']:.0f} s: {found['peak_memory'] / 2**30:.2f} GiB on one device "
        f"({found['kernels']:,} kernels, {(found['read'] + found['written']) / 1e9:.1f} GB moved in a step)"
    )
