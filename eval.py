"""`python eval.py`: the same as `openseg eval`; --help shows an example and all options."""

import sys

from openseg_jax.cli import main

if __name__ == "__main__":
    main(["eval", *sys.argv[1:]])
