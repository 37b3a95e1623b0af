"""`python -m converters`: the same as `openseg convert`."""

from openseg_jax.converters.__main__ import main

if __name__ == "__main__":
    main()
