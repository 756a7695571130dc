"""Text for people: numbers, and names of others, which cannot act on a terminal and make no message endless."""

import math
from typing import Any

LONGEST = 1000  # characters of a sentence about what is wrong

_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")  # what a cell that is a formula begins with


def plain(text: str) -> str:
    """Text without characters that move the cursor, begin a line, or cannot be seen or written: they are spelt out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def number(value: float | int) -> str:
    """A count with its thousands apart; a share with three decimals, "-" where it is nan, as nothing was measured."""
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if math.isnan(value) else f"{value:.3f}"


def shortened(text: str, longest: int = LONGEST) -> str:
    """Text of no more than so many characters: of a longer one its beginning and its end."""
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 5]} ... {text[-end:]}"


def short(value: Any, longest: int = 60) -> str:
    """A value of somebody's file as a message shows it."""
    try:
        return shortened(plain(repr(value)), longest)
    except (RecursionError, ValueError):  # lists in lists; whole numbers of thousands of digits
        return f"a {type(value).__name__} too large to be shown"


def cell(text: str) -> str:
    """Text for a cell of a CSV file: an apostrophe before what a spreadsheet would compute."""
    return f"'{text}" if text.startswith(_SPREADSHEETS) else text
