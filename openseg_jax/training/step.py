"""One training step: a pure function of (state, batch), compiled once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from openseg_jax import losses, models, sharding
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import to_labels
from openseg_jax.training.averaging import ema_after, swa_after
from openseg_jax.training.loss_scale import scale_after, scale_state
from openseg_jax.training.optimizer import GROUPS, Optimizer
from openseg_jax.training.schedules import plateau_state


def make_state(variables: dict, optimizer: Optimizer, config: ConfigDict) -> dict:
    """All that a run is, apart from its config and its data.

    {"step", "params", "batch_stats", "opt_state"}, and where the config asks for them "ema", "swa", "plateau" and
    "loss_scale".
    """
    state = {"step": 0, **variables, "opt_state": optimizer.init(variables["params"])}
    if config.train.ema:
        state["ema"] = jax.tree.map(lambda x: x, variables)
    if config.schedule.name.startswith("swa"):
        state["swa"] = {"params": jax.tree.map(jnp.zeros_like, variables["params"]), "count": 0}
    if config.schedule.name == "plateau":
        state["plateau"] = plateau_state()
    if config.model.dtype == "float16":
        state["loss_scale"] = scale_state()
    return state


class TrainStep:
    """step(leaves, batch) -> (leaves, metrics); the given leaves are consumed.

    leaves: those of a state, `jax.tree.leaves(state)`; `unpack` puts them together again. As a plain list the 2,500
    arrays of an HRNet-W48 with OCR and momentum pass into and out of a compiled program in 3 ms, as nested
    dictionaries in 5 (benchmarks/step_overhead.py).
    metrics: scalars, "loss", "gradient_norm", the learning rate of each group, and with loss scaling "skipped".
    Randomness (dropout) is a function of (seed, step), so a resumed run draws what an uninterrupted one would have.
    """

    def __init__(
        self,
        model: models.Segmentor,
        optimizer: Optimizer,
        normalization: Normalization,
        mesh: Mesh,
        config: ConfigDict,
    ):
        self.model, self.optimizer, self.normalization, self.config = model, optimizer, normalization, config
        self._loss = losses.build(config.loss)
        _check_accumulation(config)
        shapes = jax.eval_shape(lambda v: make_state(v, optimizer, config), models.shapes(model))
        self.shardings = sharding.of_state(mesh, shapes, config.mesh.shard_optimizer)
        self.shapes = jax.tree.map(
            lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, self.shardings
        )
        placed, self._structure = jax.tree.flatten(self.shardings)
        self.compiled = jax.jit(self._step, donate_argnums=0, out_shardings=(placed, sharding.replicated(mesh)))

    def __call__(self, leaves: list[jax.Array], batch: dict) -> tuple[list[jax.Array], dict[str, jax.Array]]:
        return self.compiled(leaves, batch)

    def unpack(self, leaves: list[jax.Array]) -> dict:
        """The state that these leaves are of."""
        return jax.tree.unflatten(self._structure, leaves)

    def _step(self, leaves, batch):
        state, metrics = self.update(self.unpack(leaves), batch)
        return jax.tree.leaves(state), metrics

    def update(self, state: dict, batch: dict) -> tuple[dict, dict]:
        """The new state and the metrics."""
        value, batch_stats, gradients = self._gradients(state, batch)
        norm = optax.tree.norm(gradients)
        factor = state["plateau"]["factor"] if "plateau" in state else 1.0
        params, opt_state = self.optimizer.update(gradients, state["opt_state"], state["params"], state["step"], factor)
        new = state | {"params": params, "batch_stats": batch_stats, "opt_state": opt_state}
        if "ema" in state:
            variables = {part: new[part] for part in ("params", "batch_stats")}
            new["ema"] = ema_after(state["ema"], variables, self.config.train.ema)
        if "swa" in state:
            new["swa"] = swa_after(state["swa"], params, state["step"] + 1, self.optimizer.steps)
        rates = self.optimizer.rates(state["step"], factor)
        metrics = {"loss": value, "gradient_norm": norm}
        metrics |= {f"learning_rate/{group.part}": rates[group] for group in GROUPS if group.kernels}
        if "loss_scale" in state:
            finite = jnp.isfinite(norm) & jnp.isfinite(value)
            new = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, state)
            new["loss_scale"] = scale_after(state["loss_scale"], finite)
            metrics = {key: jnp.where(finite, metric, 0) for key, metric in metrics.items()}
            metrics |= {"skipped": 1.0 - finite, "loss_scale": new["loss_scale"]["scale"]}
        new["step"] = state["step"] + 1  # as in the original, of a step that is not taken too
        return new, metrics

    def _gradients(self, state: dict, batch: dict):
        """Loss, new batch statistics, and gradients of a batch, taken in parts where the config says so."""
        rng = jax.random.fold_in(jax.random.key(self.config.seed), state["step"])
        scale = state["loss_scale"]["scale"] if "loss_scale" in state else 1.0
        parts = self.config.train.accumulate
        compute = jax.value_and_grad(self.compute_loss, has_aux=True)
        if parts == 1:
            (value, batch_stats), gradients = compute(state["params"], state["batch_stats"], batch, rng, scale)
        else:
            # every part takes rows of every device
            split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
            shares = scale * self._shares(split)

            def add(carry, part):
                gradients, batch_stats = carry
                index, share, rows = part
                rng_of_part = jax.random.fold_in(rng, index)
                (value, batch_stats), new = compute(state["params"], batch_stats, rows, rng_of_part, share)
                return (jax.tree.map(jnp.add, gradients, new), batch_stats), value

            start = jax.tree.map(jnp.zeros_like, state["params"]), state["batch_stats"]
            unroll = parts if jax.default_backend() == "cpu" else 1  # where convolutions in loops are slow
            rows = jnp.arange(parts), shares, split
            (gradients, batch_stats), values = jax.lax.scan(add, start, rows, unroll=unroll)
            value = jnp.sum(values)
        return value / scale, batch_stats, jax.tree.map(lambda g: g / jnp.asarray(scale, g.dtype), gradients)

    def compute_loss(self, params: dict, batch_stats: dict, batch: dict, rng: jax.Array, scale):
        """(scale * loss, new batch statistics)."""
        config, model = self.config, self.model
        images = normalize(batch["image"], batch["box"], self.normalization)
        told = to_labels(batch["label"]) if model.head.needs_labels else None
        variables = {"params": self.optimizer.without_frozen(params), "batch_stats": batch_stats}
        outputs, batch_stats = models.apply(
            model,
            variables,
            images,
            train=True,
            rngs=rng,
            labels=told,
            upsample=False,
            frozen_norm=config.train.frozen_norm,
            recompute=config.train.recompute,
        )
        if model.head.full_size:
            outputs = {name: losses.Upsampled(x, images.shape[1:3]) for name, x in outputs.items()}
        return scale * self._loss(outputs, batch), batch_stats

    def _shares(self, parts: dict) -> jax.Array:
        """(k,): what the loss of each part of a batch counts in that of the whole."""
        count, config = self.config.train.accumulate, self.config.loss
        weight = losses.lookup(config.name).weight
        if config.scope == "replica":
            return jnp.full(count, 1 / count)
        weights = jnp.stack([weight(config, {"label": label}) for label in parts["label"]])
        return weights / jnp.maximum(jnp.sum(weights), 1e-12)


def _check_accumulation(config) -> None:
    parts = config.train.accumulate
    if parts < 1 or config.train.batch_size % parts:
        raise InputError(f"train.accumulate={parts} must divide train.batch_size={config.train.batch_size}")
    if parts > 1 and config.loss.scope == "global" and losses.lookup(config.loss.name).weight is None:
        raise InputError(
            f"loss {config.loss.name!r} of a whole batch is not a sum over its parts: with train.accumulate take "
            '--config.loss.scope=replica, the mean of their losses, or the loss "ce" or "aux_ce"'
        )
