"""`python -m openseg_jax.recipes.legacy`: the same as `openseg convert config`."""

from openseg_jax.cli import main

if __name__ == "__main__":
    main(command="convert config")
