"""The device's part of augmentation with `augment.on_device`: resize, crop, flip and brightness of a batch.

    python -m benchmarks.augmentation --batch_size 8

The data are those of benchmarks/input_pipeline.py, which measures the host's part.
"""

import tempfile

from benchmarks import harness
from benchmarks.input_pipeline import KINDS, device_part, make_data


def main() -> None:
    a, found = harness.parser(__doc__, batch_size=8).parse_args(), []
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as root:
            make_data(kind, root)
            found += harness.compete({"openseg_jax": device_part}, a, work=a.batch_size, kind=kind, root=root)
    headings = {"kind": "data", "device": "device", "batch_size": "batch", "ms": "ms per batch", "per_s": "samples/s"}
    harness.report("Augmentation on the device", found, a.out, **headings)


if __name__ == "__main__":
    main()
