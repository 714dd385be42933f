"""Pages of a local run: the templates in this folder, in the console's style."""

from pathlib import Path

import jinja2

_CHECKOUT = Path(__file__).parents[3]
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(
        [Path(__file__).parent, _CHECKOUT / "functions" / "ops_console" / "pages"]
    ),
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def render(name: str, **shown: object) -> str:
    """Return the page `name`.html with these values."""
    return _TEMPLATES.get_template(f"{name}.html").render(**shown)
