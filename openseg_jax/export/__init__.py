"""Nets as one file that runs without this package: StableHLO or ONNX."""
