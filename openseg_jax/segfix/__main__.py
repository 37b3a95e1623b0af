"""`python -m openseg_jax.segfix`: the same as `openseg segfix`."""

from openseg_jax.cli import main

if __name__ == "__main__":
    main(command="segfix")
