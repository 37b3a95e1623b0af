"""Scores, as accumulators over images and as functions of counts."""
