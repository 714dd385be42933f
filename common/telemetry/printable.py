"""Make text that came from outside harmless on a terminal.

Event types, ids, headers and reasons are written by others. Control characters in them
would move the cursor, fill the clipboard, reverse the text or forge a line.
"""

import json


def printable(text: str) -> str:
    """Return the text in one line, with JSON's escape for whatever does not print.

    That is what `str.isprintable` says: control characters (also C1), line and
    paragraph separators, and invisible format characters such as bidi controls. JSON
    remains the same JSON.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines, each of them printable and indented.

    The indent tells them from a line that the text forges.
    """
    return "\n".join(f"  {printable(line)}" for line in text.split("\n"))
