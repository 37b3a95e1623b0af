"""`python -m openseg_jax.export`: the same as `openseg export`."""

from openseg_jax.cli import main

if __name__ == "__main__":
    main(command="export")
