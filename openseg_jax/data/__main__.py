"""`python -m openseg_jax.data`: the same as `openseg data`."""

from openseg_jax.cli import main

if __name__ == "__main__":
    main(command="data")
