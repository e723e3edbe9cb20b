"""The tables of the page as cells: a score, its difference from the baseline, the colour of that, a title, a link."""

from collections.abc import Iterable, Sequence
from typing import Any

from xtl.report import analysis, p_values
from xtl.report.analysis import signed
from xtl.report.languages import Atlas
from xtl.report.significance import MANY_SEEDS, Interval, Test, Tests
from xtl.runs.read import Run
from xtl.runs.results import BASELINE, Cell, Column

FULL = 6.0  # points: from here the colour of a difference is at its strongest, unless the table holds larger ones


def _shade(gain: float | None, most: float) -> dict[str, Any]:
    """CSS class and strength of a difference's colour."""
    if gain is None or abs(gain) < 0.05:
        return {"side": "", "strength": 0}
    return {"side": "up" if gain > 0 else "down", "strength": round(8 + 62 * min(abs(gain) / most, 1.0))}


def _strongest(gains: Iterable[float | None]) -> float:
    """Where the colour ends: at the 95th percentile, so that one outlier does not bleach all others."""
    sizes = sorted(abs(gain) for gain in gains if gain is not None)
    return max(FULL, sizes[int(0.95 * (len(sizes) - 1))]) if sizes else FULL


def _cell(cell: Cell | None, most: float, *, link: str = "", test: Test | None = None) -> dict[str, Any]:
    if cell is None:
        empty = dict.fromkeys(("value", "gain", "spread", "mark"), "")
        return {**empty, "text": "–", "title": "not evaluated yet", "link": link, **_shade(None, 1)}
    title = [f"{cell.mean:.2f}, mean of {cell.seeds} seed{'s' if cell.seeds > 1 else ''}"]
    if cell.gain is not None:
        title.append(f"{signed(cell.gain, 2)} against {BASELINE}")
    title += _known(test) if test is not None else []
    return {
        "text": f"{cell.mean:.1f}",
        "value": f"{cell.mean:.4f}",
        "gain": "" if cell.gain is None else signed(cell.gain),
        "spread": "" if cell.spread is None else f"±{cell.spread:.1f}",
        "mark": test.mark if test is not None else "",
        "title": "; ".join(title),
        "link": link,
        **_shade(cell.gain, most),
    }


def _known(test: Test) -> list[str]:
    """What is known about a difference, in phrases for a title."""
    phrases = []
    if test.over_runs is not None and test.adjusted is not None:
        phrases.append(f"95 % interval over runs {_range(test.over_runs, 2)} ({test.runs[0]} and {test.runs[1]} runs)")
        phrases.append(f"adjusted {p_values.equation(test.adjusted)}")
    else:
        phrases.append(f"not tested: {test.runs[0]} and {test.runs[1]} runs; a claim about the method {_need(test)}")
    if test.over_examples is not None:
        interval = _range(test.over_examples, 2)
        phrases.append(f"95 % interval over examples {interval}, of these trainings, not of the method")
    return phrases


def _range(interval: Interval, digits: int = 1) -> str:
    return f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"


def _need(test: Test) -> str:
    """How many seeds per side the claim needs."""
    if test.seeds_needed is None:
        return "needs at least 3, better 5 seeds"
    if test.seeds_needed > MANY_SEEDS:
        return f"needs more than {MANY_SEEDS} seeds"
    return f"needs about {test.seeds_needed} seeds"


def _mean(score: float | None, gain: float | None, most: float) -> dict[str, Any]:
    title = "mean over targets" if score is not None else "not all targets are evaluated"
    return _cell(None if score is None else Cell(score, None, 1, gain), most) | {"title": title}


# ---------------------------------------------------------------- the table of results


def results(run: Run, tests: Tests) -> dict[str, Any]:
    """One row per intermediate task, one column per target and group of languages, and the best row per target."""
    columns, cells = run.table.columns, run.table.cells
    most = _strongest(cell.gain for row in cells.values() for cell in row if cell)
    tops = [max((c.mean for row in cells.values() if (c := row[i])), default=None) for i in range(len(columns))]
    rows = []
    for label, row in cells.items():
        shown = []
        for i, cell in enumerate(row):
            link, test = _first_stage(run, label, columns[i].target), tests.cells.get((label, i))
            best = cell is not None and cell.mean == tops[i]
            shown.append({**_cell(cell, most, link=link, test=test), "best": best})
        rows.append({"label": label, "cells": shown, "means": _means(run, label, most), "baseline": label == BASELINE})
    heads = [
        {"text": c.group, "languages": ", ".join(c.languages), "first": i == 0 or c.target != columns[i - 1].target}
        for i, c in enumerate(columns)
    ]
    return {
        "groups": _groups(columns),
        "heads": heads,
        "rows": rows,
        "composite": _composite(run, most),
        "spread": any(cell and cell.spread is not None for row in cells.values() for cell in row),
    }


def _groups(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """The heads above the columns: one per target."""
    groups: list[dict[str, Any]] = []
    for column in columns:
        if not groups or groups[-1]["target"] != column.target:
            groups.append({"target": column.target, "metric": column.metric, "span": 0})
        groups[-1]["span"] += 1
    return groups


def _first_stage(run: Run, label: str, target: str) -> str:
    """The stage that a cell links to, if any."""
    stages = run.stages_of(label, target) if label else []
    return stages[0].name if stages else ""


def _means(run: Run, label: str, most: float) -> list[dict[str, Any]]:
    """Means over all targets: of English, of the others; empty for a single target."""
    if len(run.targets) < 2:
        return []
    return [
        _mean(
            analysis.mean_score(run, label, columns),
            analysis.mean_gain(run, label, columns) if label != BASELINE else None,
            most,
        )
        for columns in (analysis.english(run), analysis.others(run))
    ]


def _composite(run: Run, most: float) -> dict[str, Any] | None:
    """The row that takes each target from its best condition; None where no target has two conditions."""
    composite = analysis.composite(run)
    if not composite.chosen:
        return None
    cells = []
    for cell, column in zip(composite.cells, run.table.columns, strict=True):
        label = composite.chosen.get(column.target, "")
        cells.append({**_cell(cell, most, link=_first_stage(run, label, column.target)), "chosen": label})
    reasons = dict.fromkeys(composite.basis.values())
    return {
        "cells": cells,
        "honest": composite.honest,
        "means": _composite_means(composite, run, most),
        "basis": {basis: [t for t, b in composite.basis.items() if b == basis] for basis in reasons},
    }


def _composite_means(composite: analysis.Composite, run: Run, most: float) -> list[dict[str, Any]]:
    if len(run.targets) < 2:
        return []
    means = []
    for columns in (analysis.english(run), analysis.others(run)):
        cells = [composite.cells[i] for i in columns]
        if not cells or None in cells:
            means.append(_mean(None, None, most))
            continue
        gains = [cell.gain or 0.0 for cell in cells if cell]
        score = sum(cell.mean for cell in cells if cell) / len(cells)
        means.append(_mean(score, sum(gains) / len(gains) if run.has_baseline else None, most))
    return means


def intervals(run: Run, tests: Tests) -> list[dict[str, Any]]:
    """The intervals of the differences: one row per condition, one text per column ("–": no difference)."""
    rows = []
    for label in run.labels:
        if label != BASELINE:
            known = [tests.cells.get((label, i)) for i in range(len(run.table.columns))]
            rows.append({"label": label, "cells": [_interval(test) if test is not None else "–" for test in known]})
    return rows if tests.cells else []


def _interval(test: Test) -> str:
    """`+0.3 to +2.1` over runs; over examples where nothing is tested, with the seeds that a test would need."""
    if test.over_runs is not None:
        return _range(test.over_runs)
    examples = [f"{_range(test.over_examples)} over examples"] if test.over_examples is not None else []
    return "; ".join([*examples, _need(test)])


# ---------------------------------------------------------------- benchmark averages, languages


def averages(run: Run) -> dict[str, Any] | None:
    """The benchmark's group means; None where no group is complete."""
    averages = analysis.averages(run)
    if averages is None:
        return None
    groups = averages.groups.values()
    most = _strongest(v - b for scores in groups if (b := scores.get(BASELINE)) is not None for v in scores.values())
    rows = []
    for label in run.labels:
        cells = []
        for scores in groups:
            score, base = scores.get(label), scores.get(BASELINE)
            gain = None if score is None or base is None or label == BASELINE else score - base
            cells.append(_mean(score, gain, most) | {"title": ""})
        rows.append({"label": label, "cells": cells})
    return {"benchmark": averages.benchmark, "groups": list(averages.groups), "rows": rows, "partial": averages.partial}


def heatmap(run: Run, atlas: Atlas, target: str) -> dict[str, Any]:
    """One target by language: the scores of the baseline, and the differences of the other conditions from it."""
    codes = atlas.ordered(run.languages(target))
    gains = {label: [run.gain(label, target, x) for x in codes] for label in run.labels if label != BASELINE}
    most = _strongest(gain for row in gains.values() for gain in row)
    rows = []
    for label in run.labels:
        stages = run.stages_of(label, target)
        if not stages:  # a condition that is not evaluated on this target
            continue
        cells = []
        for i, code in enumerate(codes):
            score, gain = run.score(label, target, code), gains[label][i] if label in gains else None
            shown = gain if label != BASELINE and run.has_baseline else score
            text = "–" if shown is None else signed(shown) if shown is gain else f"{shown:.1f}"
            title = f"{label}, {atlas[code].name} ({code}): " + ("–" if score is None else f"{score:.2f}")
            title += f", {signed(gain, 2)} against {BASELINE}" if gain is not None else ""
            value = "" if shown is None else f"{shown:.4f}"
            cells.append({"text": text, "value": value, "title": title, **_shade(gain, most)})
        rows.append({"label": label, "cells": cells, "link": stages[0].name})
    languages = [atlas[code] for code in codes]
    return {
        "target": target,
        "metric": run.results.metrics[target],
        "languages": languages,
        "rows": rows,
        "distances": any(language.distance is not None for language in languages),
        "retrieval": analysis.retrieval_settings(run).get(target, []),
    }
