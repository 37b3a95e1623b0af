"""`python -m openseg_jax.converters`: the same as `openseg convert`."""

from openseg_jax.cli import main

if __name__ == "__main__":
    main(command="convert")
