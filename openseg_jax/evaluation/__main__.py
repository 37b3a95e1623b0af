"""`python -m openseg_jax.evaluation compare`: the same as `openseg compare`."""

import sys

from openseg_jax.cli import main

if __name__ == "__main__":
    main([*sys.argv[1:]])
