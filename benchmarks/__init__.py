"""Speed and memory, side by side with PyTorch. Each module is a command: python -m benchmarks.NAME --help."""
