"""Evaluation: scores of a checkpoint on a data set, and reports."""
