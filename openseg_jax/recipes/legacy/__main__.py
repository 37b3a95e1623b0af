"""`python -m openseg_jax.recipes.legacy`: the same as `openseg convert config`."""

import sys

from openseg_jax.cli import main

if __name__ == "__main__":
    main(["convert", "config", *sys.argv[1:]])
