"""The figures: gain by distance, learning curves, retrieval layers, and heat maps for the paper."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from xtl import files
from xtl.report import p_values, style
from xtl.report.analysis import signed
from xtl.report.labels import label_points
from xtl.report.languages import Atlas
from xtl.runs.read import Run, Stage
from xtl.runs.results import BASELINE, SOURCE_LANGUAGE

KINDS = ("distance", "curve", "sweep", "heatmap")
PANEL = (3.5, 2.7)  # inches: one column of a two-column paper


@dataclass(frozen=True)
class Figure:
    """One figure: the files figures/<name>.svg and .png, the same figure as an element of the page, and its text."""

    name: str
    kind: str  # one of KINDS
    title: str
    caption: str
    svg: str = ""


def draw(run: Run, atlas: Atlas, folder: files.Pathish, *, prefix: str = "") -> list[Figure]:
    """Draw every figure that the results allow into FOLDER; heat maps are for papers only, the page has tables."""
    looks = style.series(run.labels, BASELINE)
    figures = []
    kinds = _distances(run, atlas, looks), _curves(run, looks), _sweeps(run, looks), _heatmaps(run, atlas)
    for figure, draw_it in chain(*kinds):
        name = prefix + figure.name
        drawn = draw_it()
        style.write(drawn, folder, name)
        svg = style.inline(drawn, name, title=f"{figure.title}. {figure.caption}") if figure.kind != "heatmap" else ""
        figures.append(Figure(name, figure.kind, figure.title, figure.caption, svg))
    return figures


Drawn = Iterator[tuple[Figure, Any]]  # a figure, and the function that draws it


# ---------------------------------------------------------------- gain by distance


def _distances(run: Run, atlas: Atlas, looks: Mapping[str, Any]) -> Drawn:
    for label in run.labels:
        points = _gains_by_distance(run, atlas, label) if label != BASELINE else {}
        if len(points) < 3:
            continue
        caption = f"{len(points)} languages, mean over targets; line: least squares. {_trend_in_words(points)}"
        figure = Figure(f"distance-{label}", "distance", f"{label}: gain by distance from English", caption)
        yield figure, lambda label=label, points=points: _draw_distance(label, points, looks[label])


def _gains_by_distance(run: Run, atlas: Atlas, label: str) -> dict[str, tuple[float, float]]:
    """language -> (distance, gain averaged over the targets that have it), English left out."""
    gains: dict[str, list[float]] = {}
    for target in run.targets:
        for language in run.languages(target):
            gain = run.gain(label, target, language)
            if gain is not None and language != SOURCE_LANGUAGE:
                gains.setdefault(language, []).append(gain)
    far = {language: atlas[language].distance for language in gains}
    return {x: (d, statistics.fmean(gains[x])) for x, d in far.items() if d is not None}


def _trend_in_words(points: Mapping[str, tuple[float, float]]) -> str:
    from scipy.stats import spearmanr

    x, y = zip(*points.values(), strict=True)
    if len(points) < 5 or len(set(x)) < 2 or len(set(y)) < 2:
        return "Too few languages for a correlation."
    correlation = spearmanr(x, y)
    return f"Spearman ρ = {signed(correlation.statistic, 2)}, {p_values.equation(correlation.pvalue)}."


def _draw_distance(label: str, points: Mapping[str, tuple[float, float]], look: Mapping[str, Any]) -> Any:
    import numpy as np

    x, y = (np.array(values) for values in zip(*points.values(), strict=True))
    with style.canvas(*PANEL) as (figure, axes):
        axes.axhline(0, color=style.MUTED, linewidth=0.8)
        if len(set(x.tolist())) > 1:
            slope, start = np.polyfit(x, y, 1)
            ends = np.array([x.min(), x.max()])
            axes.plot(ends, start + slope * ends, color=look["color"], alpha=0.55, linestyle=(0, (4, 2)))
        axes.scatter(x, y, s=14, color=look["color"], linewidths=0, zorder=3)
        axes.margins(0.1)
        axes.set_xlabel("distance from English")
        axes.set_ylabel("gain (points)")
        axes.set_title(label)
        label_points(axes, ((name, *point) for name, point in points.items()), size=6.5, color=style.MUTED)
        return figure


# ---------------------------------------------------------------- learning curves


def _curves(run: Run, looks: Mapping[str, Any]) -> Drawn:
    """One panel for the stages that train the same tasks for the same targets, one line per stage."""
    panels: dict[tuple[str, str], list[Stage]] = {}
    for stage in run.units:
        if len(stage.log) > 1:
            panels.setdefault((stage.phase, stage.purpose), []).append(stage)
    for (phase, purpose), stages in panels.items():
        name = f"curve-{phase}-{purpose}".replace(" → ", "-").replace(" + ", "+").replace(", ", "+")
        for key, what in (("loss", "training loss"), ("dev", "development score")):
            lines = {stage.name: _line(stage, key) for stage in stages}
            lines = {stage: line for stage, line in lines.items() if len(line) > 1}
            if lines:
                caption = f"{what.capitalize()} of {len(lines)} {'stage' if len(lines) == 1 else 'stages'}."
                if any(run.stages[stage].dev_score is not None for stage in lines):
                    caption += " Dots: the checkpoints chosen."
                figure = Figure(f"{name}-{key}", "curve", f"{purpose} ({phase})", caption)
                chosen = [run.stages[stage] for stage in lines]
                yield figure, lambda s=chosen, k=key, w=what, p=purpose: _draw_curves(s, k, w, p, looks)


def _line(stage: Stage, key: str) -> list[tuple[int, float]]:
    values = ((r["step"], r.get("dev", {}).get("score") if key == "dev" else r.get(key)) for r in stage.log)
    return [(step, value) for step, value in values if value is not None]


def _draw_curves(stages: Sequence[Stage], key: str, what: str, purpose: str, looks: Mapping[str, Any]) -> Any:
    thin = {"linewidth": 0.9, "alpha": 0.85} if len(stages) > 6 else {}
    with style.canvas(*PANEL) as (figure, axes):
        in_legend = set()
        for stage in stages:
            look = looks.get(stage.intermediate, looks[BASELINE])
            x, y = zip(*_line(stage, key), strict=True)
            shown = stage.intermediate if len(stages) > 1 and stage.intermediate not in in_legend else None
            in_legend.add(stage.intermediate)
            axes.plot(x, y, label=shown, **look, **thin)
            best = (stage.result.get("selection") or {}).get("best_step")
            if best and best in x:
                axes.plot([best], [y[x.index(best)]], "o", color=look["color"], markersize=3)
        axes.set_xlabel("step")
        axes.set_ylabel(what)
        axes.set_title(purpose)
        if len(in_legend) > 1:
            axes.legend(ncols=1 + (len(in_legend) > 6), handlelength=1.6, labelspacing=0.25)
        return figure


# ---------------------------------------------------------------- retrieval layers


def _sweeps(run: Run, looks: Mapping[str, Any]) -> Drawn:
    """One panel per target and setting, one line per condition (mean over languages and seeds).

    From "sweep" in eval/<task>.json: {language: {"mean": [score by layer], "mean, centred": [...], "cls": [...], ...}}.
    """
    panels: dict[tuple[str, str], dict[str, list[Sequence[float]]]] = {}
    for stage in run.units:
        for task, report in stage.evaluations.items():
            for by_setting in report.get("sweep", {}).values():
                for setting, scores in by_setting.items():
                    panels.setdefault((task, setting), {}).setdefault(stage.intermediate, []).append(scores)
    for (task, setting), by_label in panels.items():
        lines = {x: [statistics.fmean(layer) for layer in zip(*scores, strict=True)] for x, scores in by_label.items()}
        caption = "Mean over languages and seeds; layer 0 is the embedding output."
        name = f"sweep-{task}-{setting}".replace(", ", "-")
        figure = Figure(name, "sweep", f"{task} by layer, {setting}", caption)
        yield figure, lambda x=lines, t=f"{task}, {setting}": _draw_sweep(x, t, looks)


def _draw_sweep(lines: Mapping[str, Sequence[float]], title: str, looks: Mapping[str, Any]) -> Any:
    with style.canvas(*PANEL) as (figure, axes):
        for label, scores in lines.items():
            axes.plot(range(len(scores)), scores, marker="o", markersize=2, label=label, **looks[label])
        axes.set_xlabel("layer")
        axes.set_ylabel("score")
        axes.set_title(title)
        if len(lines) > 1:
            axes.legend(ncols=1 + (len(lines) > 6), handlelength=1.6, labelspacing=0.25)
        return figure


# ---------------------------------------------------------------- heat maps, for papers


def _heatmaps(run: Run, atlas: Atlas) -> Drawn:
    if not run.has_baseline:
        return
    for target in run.targets:
        languages = atlas.ordered(run.languages(target))
        rows = [label for label in run.labels if label != BASELINE and run.stages_of(label, target)]
        gains = [[run.gain(label, target, language) for language in languages] for label in rows]
        if not any(gain is not None for row in gains for gain in row):
            continue
        metric = run.results.metrics[target]
        caption = f"Difference from {BASELINE} in {metric}, languages from near to far."
        yield (
            Figure(f"heatmap-{target}", "heatmap", f"{target}: gain by language", caption),
            lambda g=gains, r=rows, x=languages, t=f"{target} ({metric})": _draw_heatmap(g, r, x, t),
        )


def _draw_heatmap(gains: Sequence[Sequence[float | None]], rows: list[str], languages: list[str], title: str) -> Any:
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    values = np.array([[np.nan if gain is None else gain for gain in row] for row in gains], float)
    most = max(float(np.nanmax(np.abs(values))), 1.0) if np.isfinite(values).any() else 1.0
    colours = LinearSegmentedColormap.from_list("gain", [style.LOSS, "#f7f7f7", style.GAIN])
    size = max(3.5, 0.9 + 0.27 * len(languages)), max(1.1, 0.75 + 0.22 * len(rows))
    with style.canvas(*size) as (figure, axes):
        axes.imshow(values, cmap=colours, vmin=-most, vmax=most, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = style.PAPER if abs(value) > 0.6 * most else style.INK
                axes.text(column, row, signed(value), ha="center", va="center", fontsize=5.5, color=colour)
        axes.set_xticks(range(len(languages)), languages)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_title(title)
        return figure
