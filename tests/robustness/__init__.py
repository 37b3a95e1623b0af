"""Damaged, hostile and nonsensical input: either the right data or one sentence, and nothing else.

Every test here is bounded to seconds. The environment variable FUZZ multiplies the number of inputs, and SEED makes
others (`make fuzz`).
"""

import os

import numpy as np

from openseg_jax.errors import InputError

FUZZ, SEED = (int(os.environ.get(name, default)) for name, default in (("FUZZ", "1"), ("SEED", "0")))


def generator(number: int) -> np.random.Generator:
    """Returns the random numbers of a test, which has a number of its own."""
    return np.random.default_rng([SEED, number])


def attempt(function, *arguments):
    """Returns (result, ""), or (None, message) if the input was refused, which takes one sentence."""
    try:
        return function(*arguments), ""
    except InputError as error:
        is_sentence(error)
        return None, str(error)


def is_sentence(error: Exception, *names: str) -> None:
    """The message is one line of bounded length, and says one of the names if there are any."""
    says = str(error)
    assert "\n" not in says
    assert 0 < len(says) < 3000
    assert not names or any(name in says for name in names), (names, says)
