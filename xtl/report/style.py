"""One look for all figures: on paper, and in a page that may be light or dark.

A figure is drawn once, in the colours of paper. Files are written as they are; for the page every colour becomes a CSS
variable of page.css, so that it follows the theme, and text stays text.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xtl import files

INK, MUTED, LINE, PAPER = "#1f2328", "#6a737d", "#d5d9de", "#ffffff"
# Paul Tol's "muted", distinguishable with any colour vision and in print; the baseline is grey.
SERIES = ("#332288", "#cc6677", "#117733", "#88ccee", "#ddcc77", "#aa4499", "#44aa99", "#882255", "#999933", "#661100")
BASE = "#7f868e"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))  # after the last colour: the next dash
GAIN, LOSS = "#2166ac", "#b35806"  # ends of the diverging scale
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    PAPER: "--card",
    BASE: "--base",
    **{colour: f"--series-{i}" for i, colour in enumerate(SERIES)},
}

SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "xtl",
    "svg.fonttype": "path",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "text.color": INK,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 7,
    "figure.facecolor": PAPER,
    "figure.dpi": 100,
    "savefig.dpi": 200,
}


@contextmanager
def canvas(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """(figure, axes) of so many inches, without a display and without global state."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots()


def series(labels: list[str], baseline: str) -> dict[str, dict[str, Any]]:
    """Colour and dash of each condition, the same in every figure."""
    others = [label for label in labels if label != baseline]
    looks: dict[str, dict[str, Any]] = {baseline: {"color": BASE, "linestyle": "-"}}
    for i, label in enumerate(others):
        looks[label] = {"color": SERIES[i % len(SERIES)], "linestyle": DASHES[i // len(SERIES) % len(DASHES)]}
    return looks


def write(figure: Any, folder: files.Pathish, name: str) -> None:
    """FOLDER/<name>.svg and .png; equal figures are equal bytes."""
    import matplotlib

    for suffix, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        file = io.BytesIO()
        with matplotlib.rc_context(SETTINGS):
            figure.savefig(file, format=suffix, metadata=metadata)
        files.atomic_write(files.join(folder, f"{name}.{suffix}"), file.getvalue())


def inline(figure: Any, name: str, *, title: str) -> str:
    """The figure as an <svg> element of a page: themed, scalable, with a title for those who cannot see it."""
    import html

    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({**SETTINGS, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    # Ids are unique within one figure only; a page holds many.
    own = re.sub(r"[^\w-]", "_", name)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{own}-", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    for colour, variable in VARIABLES.items():
        svg = re.sub(colour, f"var({variable})", svg, flags=re.I)
    svg = re.sub(r"(font: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1inherit-family", svg).replace(
        "inherit-family", "sans-serif"
    )
    label = html.escape(title, quote=True)
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])  # type: ignore[index]
    head = f'<svg role="img" aria-label="{label}" style="width:100%;max-width:{width * 4 / 3:.0f}px;height:auto"'
    svg = re.sub(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>', rf"{head} \1>", svg, count=1)
    return re.sub(r"\n\s*", "\n", svg)
