"""Reads a request of `compile_program` from stdin, and prints the facts as JSON."""

import json
import sys
import time

from openseg_jax.errors import run_command


def main() -> None:
    from openseg_jax import sharding
    from openseg_jax.compiled.facts import facts
    from openseg_jax.compiled.targets import TARGETS, devices
    from openseg_jax.config import typed
    from openseg_jax.files import write_text
    from openseg_jax.programs import lower

    request = json.load(sys.stdin)
    config = typed(request["config"])
    mesh = sharding.make_mesh(config.mesh.spatial, devices(request["target"], request["devices"]))
    start = time.perf_counter()
    lowered = lower(config, request["program"], mesh, size=request["size"])
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    if request["hlo"]:
        write_text(request["hlo"], compiled.as_text())
    times = {"trace_s": round(traced - start, 1), "compile_s": round(done - traced, 1)}
    print(json.dumps(facts(compiled, TARGETS[request["target"]]) | times))


if __name__ == "__main__":
    run_command(main)
