"""Text from data, such as names of classes and files, made safe to show."""

import re

# Control characters, which could command a terminal; marks of direction, which reorder a line; lone surrogates, by
# which Python spells file names that are not UTF-8.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Returns text with backslash escapes in place of characters that would act rather than show."""
    return _INVISIBLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def shortened(text: str, most: int = 60) -> str:
    """Returns text of at most `most` characters, without its middle if it is longer."""
    half = most // 2
    return text if len(text) <= most else f"{text[: most - half - 1]}…{text[-half:]}"
