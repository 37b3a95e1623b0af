"""`python -m openseg_jax.evaluation compare`: the same as `openseg compare`."""

from openseg_jax.cli import main

if __name__ == "__main__":
    main()
