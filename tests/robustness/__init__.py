"""Damaged, hostile and nonsensical input: either the right data or one sentence, and nothing else.

Every test here is bounded to seconds. The environment variable FUZZ multiplies the number of inputs (`make fuzz`).
"""

import os

from openseg_jax.errors import InputError

FUZZ = int(os.environ.get("FUZZ", "1"))


def attempt(function, *arguments):
    """Returns (result, ""), or (None, message) if the input was refused, which takes one sentence of one line."""
    try:
        return function(*arguments), ""
    except InputError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    return None, message
