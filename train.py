"""`python train.py`: the same as `openseg train`; --help shows an example and all options."""

from openseg_jax.cli import main

if __name__ == "__main__":
    main(command="train")
