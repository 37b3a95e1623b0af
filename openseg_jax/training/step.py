"""One training step: a pure function of (state, batch), compiled once."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from openseg_jax import losses, models, sharding
from openseg_jax.config import Config
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.labels.classes import to_labels
from openseg_jax.models import backend
from openseg_jax.training.averaging import SwaAverage
from openseg_jax.training.optimizer import GROUPS, Optimizer, global_norm
from openseg_jax.training.packing import Packing
from openseg_jax.training.schedules import Plateau
from openseg_jax.training.state import LossScale, TrainState, placements


class TrainStep:
    """step(arrays, batch) -> (arrays, metrics), which consumes the arrays that it is given.

    Between steps, from `pack` to `unpack`, a `TrainState` is the list of its leaves with packed parameters: see
    `Packing`, and benchmarks/step_overhead.py for what a list saves.

    The metrics are scalars: "loss", "gradient_norm", the learning rate of each part, and with loss scaling "skipped"
    and "loss_scale". Dropout is a function of (seed, step): a resumed run draws what an uninterrupted one would have.
    """

    def __init__(self, config: Config, model: models.Segmentor, normalization: Normalization, mesh: Mesh):
        self.model, self.normalization, self.mesh = model, normalization, mesh
        self.loss, self.train, self.seed = config.loss, config.train, config.seed
        self.optimizer = Optimizer(config.optimizer, config.schedule, config.train.steps)
        self._loss = losses.build(config.loss)
        # A GPU compiles the parts of a batch as a loop; on a CPU convolutions in loops are slow.
        self._unroll = self.train.accumulate if mesh.devices.flat[0].platform == "cpu" else 1
        shapes = jax.eval_shape(self.init, models.shapes(model))
        self.shardings = placements(shapes, mesh, config.mesh.shard_optimizer)
        self.shapes = jax.tree.map(
            lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, self.shardings
        )
        roles = self.optimizer.roles(shapes.params)
        self.packing = Packing(shapes.params, roles, mesh)
        self.arguments, self._structure = jax.tree.flatten(self.packing.shapes(self.shapes))
        places = [x.format if x.format.layout else x.sharding for x in self.arguments], sharding.replicated(mesh)
        self.compiled = jax.jit(self._step, donate_argnums=0, out_shardings=places)

    def __call__(self, arrays: list[jax.Array], batch: dict) -> tuple[list[jax.Array], dict[str, jax.Array]]:
        return self.compiled(arrays, batch)

    def init(self, variables: dict) -> TrainState:
        """Returns the state of a new run that starts from these variables."""
        params, schedule = variables["params"], self.optimizer.schedule.name
        return TrainState(
            step=0,
            **variables,
            opt_state=self.optimizer.init(params),
            ema=jax.tree.map(lambda x: x, variables) if self.train.ema else None,
            swa=SwaAverage.start(params) if schedule.startswith("swa") else None,
            plateau=Plateau.start() if schedule == "plateau" else None,
            loss_scale=LossScale.start() if self.model.spec.dtype == "float16" else None,
        )

    def pack(self, state: TrainState) -> list[jax.Array]:
        """Returns the arrays of a state that lies where `shardings` says."""
        return jax.tree.leaves(self.packing.packed(state))

    def unpack(self, arrays: list[jax.Array]) -> TrainState:
        """Inverts `pack`."""
        return self.packing.unpacked(jax.tree.unflatten(self._structure, arrays))

    def _step(self, arrays, batch):
        with backend.on(self.mesh):
            state, metrics = self.update(jax.tree.unflatten(self._structure, arrays), batch)
        return jax.tree.leaves(state), metrics

    def update(self, state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        """Returns the state, of packed parameters, after a step on a batch, and the metrics of the step."""
        value, batch_stats, gradients = self._gradients(state, batch)
        gradients = self.packing.pack(gradients)
        norm = global_norm(gradients)
        factor = 1.0 if state.plateau is None else state.plateau.factor
        update = gradients, state.opt_state, state.params, self.packing.roles
        params, opt_state = self.optimizer.update(*update, state.step, factor)
        new = dataclasses.replace(state, params=params, batch_stats=batch_stats, opt_state=opt_state)
        if state.ema is not None:
            decay = self.train.ema
            ema = jax.tree.map(lambda a, v: (decay * a + (1 - decay) * v).astype(v.dtype), state.ema, new.variables)
            new = dataclasses.replace(new, ema=ema)
        if state.swa is not None:
            new = dataclasses.replace(new, swa=state.swa.after(params, state.step + 1, self.optimizer.steps))
        rates = self.optimizer.rates(state.step, factor)
        metrics = {"loss": value, "gradient_norm": norm}
        metrics |= {f"learning_rate/{group.part}": rates[group] for group in GROUPS if group.kernels}
        if state.loss_scale is not None:
            finite = jnp.isfinite(norm) & jnp.isfinite(value)
            new = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, state)
            new = dataclasses.replace(new, loss_scale=state.loss_scale.after(finite))
            metrics = {key: jnp.where(finite, metric, 0) for key, metric in metrics.items()}
            metrics |= {"skipped": 1.0 - finite, "loss_scale": new.loss_scale.scale}
        # As in the original, a step that is not taken counts, too.
        return dataclasses.replace(new, step=state.step + 1), metrics

    def _gradients(self, state: TrainState, batch: dict):
        """Returns loss, new batch statistics and gradients of a batch, accumulated over its parts."""
        rng = jax.random.fold_in(jax.random.key(self.seed), state.step)
        scale = 1.0 if state.loss_scale is None else state.loss_scale.scale
        parts, params = self.train.accumulate, self.packing.unpack(state.params)
        compute = jax.value_and_grad(self.compute_loss, has_aux=True)
        if parts == 1:
            (value, batch_stats), gradients = compute(params, state.batch_stats, batch, rng, scale)
        else:
            # every part takes rows of every device
            split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
            shares = scale * self._shares(split)

            def add(carry, part):
                gradients, batch_stats = carry
                index, share, rows = part
                rng_of_part = jax.random.fold_in(rng, index)
                (value, batch_stats), new = compute(params, batch_stats, rows, rng_of_part, share)
                return (jax.tree.map(jnp.add, gradients, new), batch_stats), value

            start = jax.tree.map(jnp.zeros_like, params), state.batch_stats
            rows = jnp.arange(parts), shares, split
            (gradients, batch_stats), values = jax.lax.scan(add, start, rows, unroll=self._unroll)
            value = jnp.sum(values)
        return value / scale, batch_stats, jax.tree.map(lambda g: g / jnp.asarray(scale, g.dtype), gradients)

    def compute_loss(self, params: dict, batch_stats: dict, batch: dict, rng: jax.Array, scale):
        """Returns (scale * loss, new batch statistics)."""
        head, variables = self.model.head, {"params": self.optimizer.without_frozen(params), "batch_stats": batch_stats}
        images = normalize(batch["image"], batch["box"], self.normalization)
        labels = to_labels(batch["label"]) if head.needs_labels else None
        modes = {"upsample": False, "frozen_norm": self.train.frozen_norm, "recompute": self.train.recompute}
        outputs, batch_stats = models.apply(self.model, variables, images, train=True, rngs=rng, labels=labels, **modes)
        if head.full_size:
            outputs = {name: losses.Upsampled(x, images.shape[1:3]) for name, x in outputs.items()}
        return scale * self._loss(outputs, batch), batch_stats

    def _shares(self, parts: dict) -> jax.Array:
        """Returns (k,), the share of each part of a batch in the loss of the whole."""
        count = self.train.accumulate
        if self.loss.scope == "replica":
            return jnp.full(count, 1 / count)
        weight = losses.lookup(self.loss.name).weight
        weights = jnp.stack([weight(self.loss, {"label": label}) for label in parts["label"]])
        return weights / jnp.maximum(jnp.sum(weights), 1e-12)
