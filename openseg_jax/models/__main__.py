"""`python -m openseg_jax.models`: the same as `openseg models`."""

from openseg_jax.cli import main

if __name__ == "__main__":
    main(command="models")
