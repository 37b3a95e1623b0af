"""Nets on this device beside the recorded outputs of the original, in float32 and in bfloat16.

    python -m benchmarks.goldens

The goldens and their weights are those of tests/models/test_parity.py, which says how they are compared; in float32 the
largest error must be at most 2e-4, on any device, and the command fails otherwise. In bfloat16 there is no limit:
"error / largest" is the share of the largest recorded value. Each net has a process, and all run at the same time.
"""

import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from benchmarks import harness

LIMIT = 2e-4
NETS = (
    "hrnet_w48_ocr__hrnet48__inplace_abn",
    "segfix_hrnet__hrnet18__torchbn",
    "isanet__deepbase_resnet50_dilated8__torchbn",
    "asp_ocnet__deepbase_resnet50_dilated8__torchbn",
    "fcnet__deepbase_resnest101_dilated8__torchbn",
)


HEADINGS = {"name": "golden", "device": "device", "dtype": "dtype", "error": "largest error"}
HEADINGS |= {"relative": "error / largest", "within": "within 2e-4", "s": "s"}


def measure(name: str) -> dict:
    """Returns {"rows": a row for each dtype}."""
    import jax  # before the tests, whose settings for a CPU come too late then
    import numpy as np

    harness.die_with_parent()
    flags = os.environ.get("XLA_FLAGS", "")
    from openseg_jax import models
    from tests.models import parity

    os.environ["XLA_FLAGS"] = flags
    _, variables, manifest, arrays = parity.imported(name)
    largest = max(float(np.abs(arrays[key]).max()) for key in arrays if key.count(".") == 1)
    rows = []
    for dtype in ("float32", "bfloat16"):
        start, model = time.perf_counter(), models.create(**parity.arguments(manifest), dtype=dtype)
        outputs = parity.padded_outputs(model, variables, manifest, arrays)
        error = max(max(parity.compare(manifest, arrays, tag, outputs[tag]).values()) for tag in "AB")
        row = {"name": name, "device": jax.devices()[0].device_kind, "dtype": dtype, "error": f"{error:.1e}"}
        row |= {"relative": f"{error / largest:.1e}", "s": time.perf_counter() - start}
        verdict = "yes" if error <= LIMIT else "no"
        rows.append(row | {"within": verdict if dtype == "float32" else ""})
    return {"rows": rows}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--nets", nargs="+", default=NETS, help="of tests/goldens/models")
    a, found = parser.parse_args(), []
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    with ProcessPoolExecutor(len(a.nets), multiprocessing.get_context("spawn")) as pool:
        nets = {pool.submit(measure, name): name for name in a.nets}
        for future in as_completed(nets):
            facts = harness.facts_of(future)
            found += facts["rows"] if "rows" in facts else [{"name": nets[future], **facts}]
            harness.save("Goldens", found, a.out, **HEADINGS)
    harness.report("Goldens", found, a.out, **HEADINGS)
    if wrong := [row["name"] for row in found if row.get("within") == "no"]:
        sys.exit(f"further than 2e-4 from the original in float32: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
