"""Draw a run's figures as SVG bars."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from msgspec import Struct

WIDTH, ROW, GAP, LABEL, VALUE = 800, 16, 14, 190, 190
TOP, FOOT = 56, 30
_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756")
_FONT = 'font-family="sans-serif" font-size="12" fill="#222"'


class Bar(Struct, frozen=True):
    """A bar: its length's value, what is written behind it."""

    name: str
    value: float
    text: str


Group = tuple[str, Sequence[Bar]]


def bars(title: str, note: str, groups: Sequence[Group]) -> str:
    """Return an SVG of groups of bars, all to one scale."""
    longest = max((bar.value for _, group in groups for bar in group), default=1.0)
    names = list(dict.fromkeys(bar.name for _, group in groups for bar in group))
    room = WIDTH - LABEL - VALUE
    y = TOP
    parts = [_text(10, 22, title, 'font-weight="bold"'), *_legend(names)]
    for label, group in groups:
        middle = y + ROW * len(group) / 2 + 4
        parts.append(_text(LABEL - 8, middle, label, 'text-anchor="end"'))
        for bar in group:
            length = room * bar.value / (longest or 1.0)
            colour = _COLOURS[names.index(bar.name) % len(_COLOURS)]
            parts.append(
                f'<rect x="{LABEL}" y="{y + 1}" width="{length:.1f}"'
                f' height="{ROW - 2}" fill="{colour}"/>'
            )
            parts.append(_text(LABEL + length + 5, y + ROW - 4, bar.text))
            y += ROW
        y += GAP
    parts.append(_text(10, y + 12, note, 'fill-opacity="0.7"'))
    size = f'width="{WIDTH}" height="{y + FOOT}" viewBox="0 0 {WIDTH} {y + FOOT}"'
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _legend(names: Sequence[str]) -> list[str]:
    found, x = [], LABEL
    for name, colour in zip(names, _COLOURS, strict=False):
        found.append(f'<rect x="{x}" y="32" width="12" height="12" fill="{colour}"/>')
        found.append(_text(x + 17, 42, name))
        x += 40 + 7 * len(name)
    return found


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {_FONT} {more}>{escape(text)}</text>'


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write the plots of a run; return their paths."""
    conditions = results["conditions"]
    note = (
        f"{conditions['date'][:10]}, {conditions['machine']},"
        f" Python {conditions['python']}, PostgreSQL {conditions['postgresql']}"
    )
    plots = {
        "throughput.svg": ("Responses a second, by clients", rates),
        "latency.svg": ("Latency in milliseconds, 8 clients", _latencies),
        "layers.svg": ("Processor time of a request, milliseconds", _layers),
    }
    written = []
    for name, (title, grouped) in plots.items():
        if groups := grouped(results):
            path = folder / name
            path.write_text(bars(title, note, groups))
            written.append(path)
    return written


def _by_operation(
    rows: Sequence[dict[str, Any]], bars_of: Callable[[dict[str, Any]], list[Bar]]
) -> list[Group]:
    groups: dict[str, list[Bar]] = {}
    for row in rows:
        groups.setdefault(row["operation"], []).extend(bars_of(row))
    return list(groups.items())


def rates(results: dict[str, Any]) -> list[Group]:
    """Return each operation's rates, by clients, with their share of the ceiling."""

    def found(row: dict[str, Any]) -> list[Bar]:
        share = row["of_hello"] or row["of_pgbench"]
        share_text = "" if share is None else f" ({share:.0%} of its ceiling)"
        name = f"{row['clients']} clients"
        return [Bar(name, row["rate"], f"{row['rate']:.0f}{share_text}")]

    return _by_operation(results["rows"], found)


def _latencies(results: dict[str, Any]) -> list[Group]:
    def found(row: dict[str, Any]) -> list[Bar]:
        names = ("p50_ms", "p95_ms", "p99_ms")
        return [
            Bar(name.removesuffix("_ms"), row[name], f"{row[name]:.1f}")
            for name in names
            if row[name] is not None
        ]

    return _by_operation([row for row in results["rows"] if row["clients"] == 8], found)


def _layers(results: dict[str, Any]) -> list[Group]:
    return [
        (name, [Bar(each["operation"], value, f"{value:.2f}")])
        for each in results.get("layers", [])
        for name, value in each["layers"].items()
        if value >= 0.005
    ]
