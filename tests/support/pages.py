"""Read the commands from pages that people copy them from.

A page is read as one script, so a block may use what an earlier one has set.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL = ("bash", "sh")
# Variables that a shell or a person's environment has.
GIVEN = {"HOME", "PATH", "EDITOR", "PWD", "USER"}


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the page's fenced blocks of these languages, in order."""
    text = page.read_text(encoding="utf-8")
    return [body for name, body in _FENCE.findall(text) if name in languages]


def shell_blocks(page: Path) -> list[str]:
    """Return the blocks that are pasted into a shell."""
    return blocks(page, *_SHELL)


def prose(page: Path) -> str:
    """Return the page without its blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each simple command, also of those within `$(…)`.

    Variables stay as they are written.
    """
    for block in shell_blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            for text in [line, *_substitutions(line)]:
                yield from _simple(text)


def _substitutions(line: str) -> Iterator[str]:
    """Yield what stands within each `$(…)`, whose end is its own parenthesis."""
    for start in re.finditer(r"\$\(", line):
        depth = 1
        for end in range(start.end(), len(line)):
            depth += {"(": 1, ")": -1}.get(line[end], 0)
            if depth == 0:
                yield line[start.end() : end]
                break


def _simple(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;"):
            if words:
                yield words
            words = []
        elif words or not _is_before_a_command(word):
            words.append(word)


def _is_before_a_command(word: str) -> bool:
    return word in ("do", "then", "else", "!") or bool(re.match(r"[A-Za-z_]\w*=", word))


def used_before_set(page: Path) -> list[str]:
    """Return the variables that a block uses and nothing before it has set."""
    known = set(GIVEN)
    unknown: dict[str, None] = {}
    for block in shell_blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            bare = re.sub(r"(^|\s)#.*", "", line)
            known |= set(re.findall(r"\bfor (\w+) in\b", bare))
            known |= set(re.findall(r"\bread [^;|&]*?(\w+)\s*$", bare))
            outside = re.sub(r"'[^']*'", "", bare)
            for name in re.findall(r"\$\{?([A-Za-z_]\w*)", outside):
                if name not in known:
                    unknown[name] = None
            known |= set(re.findall(r"(?:^|\s)([A-Za-z_]\w*)=", bare))
    return list(unknown)


def links(page: Path) -> list[Path]:
    """Return the files that a page links to."""
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(page))
    return [page.parent / each for each in found if "://" not in each]


# What waits for a person at the terminal.
_ASKING = re.compile(
    r"^(read -|gcloud auth (application-default )?login|gcloud projects delete"
    r"|terraform .*\b(apply|destroy)\b(?!.*-auto-approve)|rabbitmqctl add_user"
    r"|make deploy\b(?!.*(--dry-run|--yes))|\$\{EDITOR|docker compose .*\bup$)"
)


def asking_too_early(page: Path) -> list[str]:
    """Return the commands that ask although their block goes on after them."""
    found = []
    for block in shell_blocks(page):
        lines = [
            re.sub(r"\s#.*", "", line).strip()
            for line in block.replace("\\\n", " ").splitlines()
            if line.strip() and not line.startswith("#")
        ]
        found += [line for line in lines[:-1] if _ASKING.match(line)]
    return found
