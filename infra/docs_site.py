"""`make docs`: build the documentation as a site in build/site.

Pages keep their paths in the checkout, so links work on a code host, too. Links to
files that are not pages become plain text.
"""

import argparse
import os
import posixpath
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

CHECKOUT = Path(__file__).parents[1]
# Pages, and what they show.
PUBLISHED = (
    "README.md",
    "CONTRIBUTING.md",
    "DECISIONS.md",
    "CHANGELOG.md",
    "docs/**/*",
    "infra/*/README.md",
    "benchmarks/*.md",
    "benchmarks/results/*.svg",
)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s:]+)\)")
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def published() -> list[str]:
    """Return the files of the site, as paths from the checkout."""
    found = (path for pattern in PUBLISHED for path in CHECKOUT.glob(pattern))
    paths = (path.relative_to(CHECKOUT) for path in found if path.is_file())
    return sorted(
        path.as_posix()
        for path in paths
        if not any(part.startswith(".") for part in path.parts)
    )


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Return the site's files: ours in place of those below docs/, and the theme's."""
    from mkdocs.structure.files import File  # noqa: PLC0415 only mkdocs has it

    ours = str(CHECKOUT)
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for path in published():
        files.append(File(path, ours, config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(
    markdown: str,
    page: "Page",
    config: "MkDocsConfig",  # noqa: ARG001 mkdocs passes it by name
    files: "Files",
) -> str:
    """Return the page with links to files that are not pages as plain text."""
    folder = posixpath.dirname(page.file.src_uri)

    def resolve(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link[2]))
        if files.get_file_from_path(path) is None and (CHECKOUT / path).exists():
            readme = posixpath.join(path, "README.md")
            if files.get_file_from_path(readme) is None:
                return link[1]
            return f"[{link[1]}]({posixpath.relpath(readme, folder or '.')})"
        return link[0]

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(resolve, part) for part in parts[::2]]
    return "".join(parts)


def on_post_page(
    output: str,
    page: "Page",  # noqa: ARG001 mkdocs passes them by name
    config: "MkDocsConfig",  # noqa: ARG001
) -> str:
    """Return the page with a name for its search dialog, for screen readers."""
    return output.replace('role="dialog">', 'role="dialog" aria-label="Search">')


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site, or serve it; return the exit status of mkdocs."""
    parser = argparse.ArgumentParser(
        prog="make docs",
        description="Build the documentation as a site. A broken link, also to a"
        " heading, is an error.",
        epilog='Example: make docs ARGS="--serve --port 8001"',
    )
    parser.add_argument(
        "--serve", action="store_true", help="serve it, and rebuild it on changes"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="for --serve (default: %(default)s)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=CHECKOUT / "build" / "site",
        help="where it is built; its content is replaced (default: build/site)",
    )
    options = parser.parse_args(arguments)
    if options.serve:
        words = ["serve", "--dev-addr", f"127.0.0.1:{options.port}"]
        for path in published():
            words += ["--watch", str(CHECKOUT / path)]
        return _mkdocs(words, capture=False).returncode
    folder = options.folder.absolute()
    # With --quiet it would not count its warnings either.
    done = _mkdocs(["build", "--strict", "--site-dir", str(folder)], capture=True)
    for line in done.stderr.splitlines():
        if not line.startswith("INFO"):
            print(line, file=sys.stderr)
    if done.returncode == 0:
        print(f"The site is in {folder}; ARGS=--serve shows it in a browser")
    return done.returncode


def _mkdocs(words: list[str], *, capture: bool) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", *words],
        cwd=CHECKOUT,
        # Its theme would print a warning about future releases of mkdocs.
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=False,
        stderr=subprocess.PIPE if capture else None,
        text=True,
    )


if __name__ == "__main__":
    sys.exit(main())
