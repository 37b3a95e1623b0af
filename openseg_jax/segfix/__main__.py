"""`python -m openseg_jax.segfix`: the same as `openseg segfix`."""

import sys

from openseg_jax.cli import main

if __name__ == "__main__":
    main(["segfix", *sys.argv[1:]])
