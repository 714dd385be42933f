"""What a stranger would write on an operator's terminal."""

# A forged line, the clipboard (OSC 52), colours by C1, reversed text, separators that
# some terminals take for a new line, and invisible tags.
NASTY = (
    "x\x1b]52;c;aGk=\x07\x9b31m\x08\x7f\u202e\u2066\u200f\ufeff\u2028\x85"
    "\U000e0001\r\nforged é"
)


def raw(text: str) -> set[str]:
    """Return the characters that a terminal should not get, but for ends of lines."""
    return {char for char in text if not char.isprintable() and char != "\n"}
