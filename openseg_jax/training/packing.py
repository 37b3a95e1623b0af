"""The parameters of a training state as the fewer arrays that the program of a step takes and returns."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from openseg_jax import sharding
from openseg_jax.models import backend

_TOGETHER = 64  # leaves of a vector; with more, XLA joins them in several kernels of a GPU


class Packed(NamedTuple):
    """What stands for a tree of parameters, of their momenta, or of their averages."""

    vectors: Sequence[Any]
    others: Sequence[Any]


class Packing:
    """Joins the scales and biases of a tree of parameters to vectors, and lays out kernels as convolutions read them.

    Two in three parameters of an HRNet are vectors of a few numbers. Alone, each costs an update a kernel of a GPU, and
    a program an argument and a result. On a GPU kernels of convolutions lie in memory in the order that cuDNN reads;
    otherwise each step would copy them there and back. Their shapes and the values of all leaves stay the same.

    Attributes:
        roles: A `Packed` of the roles of its arrays.
    """

    def __init__(self, params: dict, roles: dict, mesh: Mesh):
        """params: The shapes of the leaves. roles: A tree like it; only leaves of one role are joined."""
        self._structure: Any
        leaves, self._structure = jax.tree.flatten(params)
        by_leaf = self._structure.flatten_up_to(roles)
        self._sizes, self._mesh = [leaf.size for leaf in leaves], mesh
        groups: dict[Any, list[int]] = {}
        for i, leaf in enumerate(leaves):
            if len(leaf.shape) == 1:
                groups.setdefault(by_leaf[i], []).append(i)
        pieces = ((group, range(0, len(group), _TOGETHER)) for group in groups.values())
        self._vectors = [group[start : start + _TOGETHER] for group, starts in pieces for start in starts]
        self._others = [i for i, leaf in enumerate(leaves) if len(leaf.shape) != 1]
        self.roles = Packed([by_leaf[places[0]] for places in self._vectors], [by_leaf[i] for i in self._others])
        with backend.on(mesh):
            self._order = backend.current().kernel_order

    def pack(self, tree: dict, join: Callable = jnp.concatenate, keep: Callable = lambda leaf: leaf) -> Packed:
        """Returns `join` of the leaves of each vector, and `keep` of each other leaf."""
        leaves = jax.tree.leaves(tree)
        vectors = [join([leaves[i] for i in places]) for places in self._vectors]
        return Packed(vectors, [keep(leaves[i]) for i in self._others])

    def unpack(self, packed: Packed, put: Callable = lambda piece: piece) -> dict:
        """Inverts `pack`; `put` is applied to the pieces of vectors."""
        leaves: list = [None] * len(self._sizes)
        for vector, places in zip(packed.vectors, self._vectors, strict=True):
            ends = np.cumsum([self._sizes[i] for i in places])
            for i, end in zip(places, ends, strict=True):
                leaves[i] = put(vector[end - self._sizes[i] : end])
        for i, array in zip(self._others, packed.others, strict=True):
            leaves[i] = array
        return jax.tree.unflatten(self._structure, leaves)

    def shapes(self, state):
        """Returns the shapes of a state with packed parameters, from its shapes with their shardings."""
        everywhere = sharding.replicated(self._mesh)

        def join(leaves):
            size = sum(leaf.size for leaf in leaves)
            return jax.ShapeDtypeStruct((size,), leaves[0].dtype, sharding=everywhere)

        def keep(leaf):
            place = backend.placed(leaf.sharding, self._order, leaf)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

        return self._over(state, lambda tree: self.pack(tree, join, keep))

    def packed(self, state):
        """Packs the arrays of a state outside of a program, through the host."""
        everywhere = sharding.replicated(self._mesh)

        def join(leaves):
            return sharding.put(everywhere, np.concatenate([np.asarray(leaf) for leaf in leaves]))

        def keep(leaf):
            return jax.device_put(leaf, backend.placed(leaf.sharding, self._order, leaf)) if self._order else leaf

        return self._over(state, lambda tree: self.pack(tree, join, keep))

    def unpacked(self, state):
        """Inverts `packed`. Vectors come to where all devices have them."""
        everywhere = sharding.replicated(self._mesh)
        put = lambda piece: sharding.put(everywhere, np.asarray(piece))  # noqa: E731

        def back(found):
            if not isinstance(found, Packed):
                return found
            return self.unpack(Packed([*map(np.asarray, found.vectors)], found.others), put)

        return jax.tree.map(back, state, is_leaf=lambda found: isinstance(found, Packed))

    def _over(self, state, function: Callable):
        """Applies a function to each part of a state that has the structure of the parameters."""
        like = lambda part: isinstance(part, dict) and jax.tree.structure(part) == self._structure  # noqa: E731
        return jax.tree.map(lambda part: function(part) if like(part) else part, state, is_leaf=like)
