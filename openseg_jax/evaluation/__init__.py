"""Evaluation: inference over whole data sets, scores and reports."""

from openseg_jax.evaluation.boundaries import BoundaryEvaluator
from openseg_jax.evaluation.inference import Evaluator

__all__ = ["BoundaryEvaluator", "Evaluator", "make_evaluator"]


def make_evaluator(model, config, source, normalization, mesh) -> Evaluator:
    """Of segmentations, or for SegFix of boundaries. config: a whole config."""
    if model.head is not None and not model.head.needs_classes:
        return BoundaryEvaluator(model, config.eval, source, normalization, mesh, config.loss.segfix)
    return Evaluator(model, config.eval, source, normalization, mesh)
