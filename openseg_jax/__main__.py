"""`python -m openseg_jax`: the same as `openseg`."""

from openseg_jax.cli import main

if __name__ == "__main__":
    main()
