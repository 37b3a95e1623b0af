"""`python -m openseg_jax.config > docs/config.md` writes the page on every field."""

from openseg_jax.config.reference import reference

if __name__ == "__main__":
    print(reference())
