"""Evaluation: inference over whole data sets, scores and reports."""
