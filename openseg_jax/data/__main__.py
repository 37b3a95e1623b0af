"""`python -m openseg_jax.data`: the same as `openseg data`."""

import sys

from openseg_jax.cli import main

if __name__ == "__main__":
    main(["data", *sys.argv[1:]])
