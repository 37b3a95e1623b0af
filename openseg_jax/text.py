"""Text from data, such as names of classes and files, made safe to show."""

import re
from typing import Any

# Control characters, which could command a terminal; marks of direction, which reorder a line; lone surrogates, by
# which Python spells file names that are not UTF-8.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Returns text with backslash escapes in place of characters that would act rather than show."""
    return _INVISIBLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(text: str) -> str:
    """Returns visible text on one line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def without_middle(text: str, most: int = 60) -> str:
    """Returns text of at most `most` characters, without its middle if it is longer."""
    half = most // 2
    return text if len(text) <= most else f"{text[: most - half - 1]}…{text[-half:]}"


def short(value: Any) -> str:
    """Returns any value as a sentence shows it: on one line, and cut after 80 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever an object of a user raises; for numbers of thousands of digits, and deep nesting
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 80 else f"{text[:77]}..."
