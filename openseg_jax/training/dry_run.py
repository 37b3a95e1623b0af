"""What a run would be, without running it: `python train.py --config=... --workdir=DIR --dry_run`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import yaml
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from openseg_jax import models, plots, sharding, visualize
from openseg_jax.data.images import write_image
from openseg_jax.data.pipeline import train_batches
from openseg_jax.training.optimizer import GROUPS, Optimizer
from openseg_jax.training.pretrained import with_pretrained
from openseg_jax.training.setup import Run, make_run


def dry_run(config: ConfigDict, workdir: str | Path) -> None:
    """Prints the config, the model, the parameter groups and a memory estimate.

    Writes config.json, schedule.png and batch.jpg (the first training batch, with its labels) into workdir/dry_run.
    Nothing is compiled but what the batch takes.
    """
    run, folder, console = make_run(config), Path(workdir).expanduser() / "dry_run", Console(soft_wrap=True)
    folder.mkdir(parents=True, exist_ok=True)
    resolved = config.to_json_best_effort(indent=2)
    console.print(yaml.safe_dump(json.loads(resolved), sort_keys=False), markup=False, highlight=False)
    (folder / "config.json").write_text(resolved + "\n")
    _print_model(run, console)
    _print_groups(run.optimizer, models.shapes(run.model)["params"], console)
    (folder / "schedule.png").write_bytes(plots.curves(_rates(run.optimizer), "learning rate"))
    batch = next(train_batches(run.samples, workers=0, process=(jax.process_index(), jax.process_count())))
    batch = {key: np.asarray(value) for key, value in run.prepare(sharding.put_batch(run.mesh, batch)).items()}
    write_image(folder / "batch.jpg", _pictures(run, batch))
    _print_memory(run, batch, console)
    if config.pretrained.checkpoint:
        console.print(with_pretrained(models.init(run.model, config.seed), run.model, config.pretrained)[1])
    console.print(f"config.json, schedule.png and batch.jpg are in {folder}; nothing was trained")


def _print_model(run: Run, console: Console) -> None:
    spec, shapes = run.model.spec, models.shapes(run.model)
    table = Table("part", "parameters", "arrays", title=f"{spec.name} on {spec.backbone}, {spec.num_classes} classes")
    for part in ("backbone", "head"):
        for name, tree in shapes["params"][part].items():
            leaves = jax.tree.leaves(tree)
            table.add_row(f"{part}.{name}", f"{sum(x.size for x in leaves):,}", str(len(leaves)))
    table.add_section()
    table.add_row("all", f"{_count(shapes['params']):,}", str(len(jax.tree.leaves(shapes["params"]))))
    console.print(table)
    sources = f"{len(run.train_source)} training and {len(run.val_source)} validation samples of {run.classes.title}"
    console.print(f"{sources}; devices: {dict(run.mesh.shape)}")


def _print_groups(optimizer: Optimizer, params: dict, console: Console) -> None:
    table = Table("group", "parameters", "first rate", "weight decay", title=f"optimizer {optimizer.config.name}")
    counts = dict.fromkeys((*GROUPS, None), 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        counts[optimizer.group(path)] += leaf.size
    rates = optimizer.rates(0)
    for group in GROUPS:
        decays = optimizer.config.weight_decay if group.kernels or optimizer.config.decay_norms_and_biases else 0.0
        name = f"{group.part}, {'kernels' if group.kernels else 'norms and biases'}"
        table.add_row(name, f"{counts[group]:,}", f"{float(rates[group]):.3g}", f"{decays:g}")
    if counts[None]:
        table.add_row("frozen", f"{counts[None]:,}", "-", "-")
    console.print(table)


def _rates(optimizer: Optimizer) -> dict[str, list[tuple[int, float]]]:
    """Of backbone and head, at 400 steps."""
    steps = np.unique(np.linspace(0, optimizer.steps - 1, 400).astype(int))
    rates = jax.vmap(optimizer.rates)(jnp.asarray(steps))
    return {group.part: list(zip(steps, np.asarray(rates[group]), strict=True)) for group in GROUPS if group.kernels}


def _pictures(run: Run, batch: dict, most: int = 8) -> np.ndarray:
    """The first samples of a batch, each beside its label."""
    rows = []
    for image, label in zip(batch["image"][:most], batch["label"][:most], strict=True):
        pair = visualize.side_by_side(image, visualize.overlay(image, label, run.classes))
        scale = min(1, 1200 / pair.shape[1])
        rows.append(cv2.resize(pair, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return np.concatenate(rows)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device. kept: what lies between the forward and the backward pass."""

    state: int
    gradients: int
    kept: int

    @property
    def total(self) -> int:
        return self.state + self.gradients + self.kept


def estimate_memory(run: Run, batch: dict) -> Memory:
    """From shapes alone: the state, its gradients, and every array that the backward pass reads.

    What XLA needs in passing comes on top, and what it computes again instead of keeping is less.
    """
    variables = models.shapes(run.model)
    shapes = {key: jax.ShapeDtypeStruct(value.shape, value.dtype) for key, value in batch.items()}
    step, config = run.step, run.config
    rows = {key: jax.ShapeDtypeStruct((x.shape[0] // config.train.accumulate, *x.shape[1:]), x.dtype)
            for key, x in shapes.items()}  # fmt: skip

    def backward(params, batch_stats, batch):
        loss = lambda p: step.compute_loss(p, batch_stats, batch, jax.random.key(0), 1.0)  # noqa: E731
        return jax.vjp(loss, params, has_aux=True)[1]

    kept = jax.eval_shape(backward, variables["params"], variables["batch_stats"], rows)
    of_params = _bytes(variables["params"])  # these are kept too, but they are part of the state
    state = sum(
        np.prod(s.shard_shape(x.shape), dtype=int) * x.dtype.itemsize
        for x, s in zip(jax.tree.leaves(step.shapes), jax.tree.leaves(step.shardings), strict=True)
    )
    return Memory(int(state), of_params, max(_bytes(kept) - of_params, 0) // run.mesh.size)


def _print_memory(run: Run, batch: dict, console: Console) -> None:
    memory = estimate_memory(run, batch)
    table = Table("on one device", "GB", title="memory, estimated")
    for name in ("state", "gradients", "kept", "total"):
        table.add_row({"kept": "activations"}.get(name, name), f"{getattr(memory, name) / 2**30:.2f}")
    console.print(table)


def _count(tree) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))


def _bytes(tree) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree) if hasattr(x, "dtype"))
