"""Matplotlib figures as inline SVG: page colours, page font, no shared ids, the same bytes each time.

Figures are drawn in stand-in colours that become CSS variables, so that one picture serves light
paper, dark screens and print.
"""

import io
import re
import warnings
from importlib import resources
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK: Final = "#000001"
MUTED: Final = "#000002"
RULE: Final = "#000003"
MEMBER: Final = "#000004"
NON_MEMBER: Final = "#000005"
GROUND: Final = "#000006"

_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    MEMBER: "var(--member)",
    NON_MEMBER: "var(--other)",
    GROUND: "var(--ground)",
}

_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "font.size": 11.0,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.unicode_minus": True,
}

_MANY_ALIKE = re.compile(r'<use [^>]*?(?P<style> style="[^"]*")/>(?:<use [^>]*?(?P=style)/>){2,}')
"""Marks drawn alike one after the other: a scatter."""

WIDTH = 4.9
"""Natural width of a figure in inches (353 units): its text stays legible on a phone."""


def new_axes(height: float) -> tuple[Figure, Axes]:
    """Return a figure of the standard width and ``height`` inches with one pair of axes."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        return figure, figure.subplots()


def integer_ticks(axes: Axes) -> None:
    """Mark whole numbers only on the horizontal axis: rounds, epochs."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def to_svg(figure: Figure, *, key: str, label: str) -> str:
    """Return ``figure`` as an ``<svg>`` element for a page.

    ``key`` makes its ids unique on the page; ``label`` says what the figure shows to those who cannot see it.
    """
    buffer = io.StringIO()
    style: Any = {**_STYLE, "svg.hashsalt": key}
    no_metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context(style), warnings.catch_warnings():
        # The reader's font draws the text: what Matplotlib's font lacks is no loss.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    return _inline(buffer.getvalue(), key, label)


def standalone(svg: str) -> str:
    """Return a page's ``<svg>`` element as a file of its own, with the page's colours for light and dark."""
    css = resources.files("privoxel.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    colours = css[: css.index("* {")]
    style = f"{colours}svg {{ background: var(--ground); font-family: system-ui, sans-serif; }}"
    head, rest = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{rest}\n'


def _inline(document: str, key: str, label: str) -> str:
    body = document[document.index("<svg") :]
    head, rest = body.split(">", 1)
    match = re.search(r'viewBox="([^"]+)"', head)
    box = match.group(1) if match else "0 0 353 240"
    rest = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", rest, count=1, flags=re.DOTALL)
    rest = re.sub(r'<g id="[^"]*"', "<g", rest)
    rest = _own_ids(rest, key)
    rest = re.sub(r"font-family: [^;\"]*;? ?", "", rest)
    rest = re.sub(r'="[^"]*"', lambda found: _shorten(found.group()), rest)
    for colour, variable in _VARIABLES.items():
        rest = rest.replace(colour, variable)
    rest = re.sub(r">\s+<", "><", rest).strip()
    rest = _MANY_ALIKE.sub(_style_once, rest)
    return f'<svg viewBox="{box}" role="img" aria-label="{_attribute(label)}">{rest}'


def _own_ids(svg: str, key: str) -> str:
    ids = re.findall(r'\bid="([^"]*)"', svg)
    for number, old in enumerate(dict.fromkeys(ids)):
        svg = svg.replace(f'id="{old}"', f'id="{key}-{number}"').replace(
            f"url(#{old})", f"url(#{key}-{number})"
        )
        svg = svg.replace(f'xlink:href="#{old}"', f'href="#{key}-{number}"')
    return svg


def _style_once(run: re.Match[str]) -> str:
    style = run.group("style")
    return f"<g{style}>{run.group().replace(style, '')}</g>"


def _shorten(attribute: str) -> str:
    shorter = re.sub(r"(\.\d\d)\d+", r"\1", attribute)
    return re.sub(r"\s*\n\s*", " ", shorter)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
