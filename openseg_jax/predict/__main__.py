"""`python -m openseg_jax.predict`: the same as `openseg predict`."""

from openseg_jax.cli import main

if __name__ == "__main__":
    main(command="predict")
