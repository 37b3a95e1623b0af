"""`python -m openseg_jax.converters`: the same as `openseg convert`."""

import sys

from openseg_jax.cli import main

if __name__ == "__main__":
    main(["convert", *sys.argv[1:]])
