"""Charts of the console: SVG that needs no script, in light and in dark.

Lives here: how a chart looks. Not here: what is counted (`console_reads.py`). Surprise:
each is loaded as an image, so that the style within it is its own, and the page's
policy needs no exception for it; the same numbers stand beside it as a table.
"""

import re
import sys
from collections.abc import Mapping, Sequence

LIGHT = ("#1a5fb4", "#b5460f", "#1c7a3e")
DARK = ("#7fb2f5", "#ffa26b", "#6fd08c")
WIDTH, HEIGHT = 640, 260
_FEW = 6
_FONT = "system-ui, sans-serif"
# Stronger than the library's own rules, which name the chart.
_STYLE = """
path, line, rect, circle {{ transition: none !important }}
.axis .guide.line {{ stroke: #c4c4c4 !important }}
@media (prefers-color-scheme: dark) {{
.title, .legends .legend text, .axis text {{ fill: #e6e6e6 !important }}
.axis .guide.line {{ stroke: #555 !important }}
.axis .line, .axis .major.line {{ stroke: #999 !important }}
{series}}}
"""


def bars(labels: Sequence[str], series: Mapping[str, Sequence[int]]) -> bytes:
    """Answer a bar chart as an SVG document: at each label one bar of each series."""
    import pygal  # noqa: PLC0415 half of a console's start, for one of its pages
    from pygal.style import Style  # noqa: PLC0415 see above

    # Its finder of plugins is of a kind that Python no longer asks, and warns of.
    sys.meta_path[:] = [each for each in sys.meta_path if hasattr(each, "find_spec")]

    in_dark = "\n".join(
        f".color-{n} {{ fill: {color} !important; stroke: {color} !important }}"
        for n, color in enumerate(DARK)
    )
    chart = pygal.Bar(
        css=["file://style.css", "file://graph.css"],
        js=[],
        style=Style(
            background="transparent",
            plot_background="transparent",
            foreground="#333333",
            foreground_strong="#111111",
            foreground_subtle="#8a8a8a",
            colors=LIGHT,
            font_family=_FONT,
            label_font_size=12,
            major_label_font_size=12,
            legend_font_size=14,
        ),
        width=WIDTH,
        height=HEIGHT,
        margin=8,
        legend_at_bottom=True,
        legend_at_bottom_columns=len(series),
        x_labels_major_count=6,
        show_minor_x_labels=False,
        max_scale=6,
        min_scale=2,
        print_values=False,
        truncate_label=-1,
        disable_xml_declaration=True,
    )
    chart.config.css.append("inline:" + _STYLE.format(series=in_dark))
    chart.x_labels = list(labels)
    if (most := max(map(max, series.values()), default=0)) < _FEW:
        chart.y_labels = range(most + 1)  # or halves would be shown as wholes
    chart.value_formatter = lambda value: f"{value:.0f}"
    for name, values in series.items():
        chart.add(name, list(values))
    drawn: str = chart.render(is_unicode=True)
    # Its tooltips' settings, which are nothing without a script.
    return re.sub(r"<script.*?</script>", "", drawn, flags=re.DOTALL).encode()
