"""`python -m openseg_jax.models`: the same as `openseg models`."""

import sys

from openseg_jax.cli import main

if __name__ == "__main__":
    main(["models", *sys.argv[1:]])
