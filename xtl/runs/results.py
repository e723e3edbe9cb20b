"""results.csv, and the table of a pipeline: rows = intermediate task, columns = target x (English, others' average).

Both are rebuilt from the finished stages' eval/*.json in an order of their own, with a fixed number format: the same
scores are the same bytes, however often the run was interrupted and whoever trained what.
"""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from typing import Any

from xtl import files
from xtl.runs.workdir import Workdir

BASELINE = "none"
SOURCE_LANGUAGE = "en"
TABLED = ("target", "eval")  # phases whose evaluations are results; others only watch their own training


@dataclass(frozen=True, order=True)
class Row:
    """One line of results.csv."""

    intermediate: str
    target: str
    language: str
    split: str
    seed: int
    metric: str
    value: str
    stage: str


@dataclass
class Results:
    """All rows, what the table shows of each target, and what is missing: stage -> state."""

    rows: list[Row] = field(default_factory=list)
    intermediates: list[str] = field(default_factory=list)  # in the order of the config, the baseline first
    metrics: dict[str, str] = field(default_factory=dict)  # target -> the metric that stands for it
    missing: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)  # stage -> what its numbers must be read with


def collect(workdir: Workdir, *, pipeline: str = "") -> Results:
    """The results of every pipeline that was launched in WORKDIR, or of one."""
    found = Results()
    for entry in workdir.read_plan():
        if pipeline not in ("", entry["pipeline"]):
            continue
        if entry.get("remark"):
            found.remarks[entry["name"]] = entry["remark"]
        if entry["phase"] not in TABLED:
            continue
        if entry["intermediate"] not in found.intermediates:
            found.intermediates.append(entry["intermediate"])
        if entry["state"] != "done":
            found.missing[entry["name"]] = entry["state"]
            continue
        for task in entry["evaluate"]:
            report = files.read_json(workdir.path / "stages" / entry["folder"] / "eval" / f"{task}.json")
            found.metrics.setdefault(task, report["metric"])
            found.rows.extend(_rows(entry, report))
    found.rows = sorted(set(found.rows))
    found.intermediates.sort(key=lambda label: label != BASELINE)
    return found


def _rows(entry: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[Row]:
    """One row a language and metric. A language without labels has its place, with an empty value."""
    for language, scores in report["languages"].items():
        for metric, value in ({report["metric"]: None} | scores).items():
            if metric != "n" and not metric.endswith("_n") and (value is None or isinstance(value, int | float)):
                yield Row(
                    intermediate=entry["intermediate"],
                    target=report["task"],
                    language=language,
                    split=report["split"],
                    seed=entry["seed"],
                    metric=metric,
                    value="" if value is None else f"{value:.4f}",
                    stage=entry["name"],
                )


def to_csv(rows: Iterable[Row]) -> str:
    """The text of results.csv."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([f.name for f in fields(Row)])
    writer.writerows(astuple(row) for row in rows)
    return out.getvalue()


def rebuild(workdir: Workdir) -> Results:
    """Write WORKDIR/results.csv anew from what is done now."""
    with workdir.claim("results", wait=True):  # read inside the lock: the last writer has seen the most
        found = collect(workdir)
        files.atomic_write(workdir.path / "results.csv", to_csv(found.rows))
    return found


# ---------------------------------------------------------------- table


@dataclass(frozen=True)
class Cell:
    """A score over seeds: mean, standard deviation (None for one seed), and mean difference from the baseline."""

    mean: float
    spread: float | None
    seeds: int
    gain: float | None


@dataclass(frozen=True)
class Column:
    """One column: the English score of a target, or the average of its other languages."""

    target: str
    metric: str
    languages: tuple[str, ...]

    @property
    def group(self) -> str:
        if self.languages == (SOURCE_LANGUAGE,):
            return SOURCE_LANGUAGE
        return self.languages[0] if len(self.languages) == 1 else f"{len(self.languages)} others"


@dataclass
class Table:
    """Rows by intermediate; `cells[intermediate][column]` is None where nothing is known yet."""

    columns: list[Column]
    cells: dict[str, list[Cell | None]]
    missing: dict[str, str]
    remarks: dict[str, str] = field(default_factory=dict)


def table(results: Results) -> Table:
    """The table of a pipeline's results."""
    by_target: dict[str, dict[tuple[str, int, str], float]] = {target: {} for target in results.metrics}
    for row in results.rows:
        if row.metric == results.metrics[row.target]:
            by_target[row.target][row.intermediate, row.seed, row.language] = float(row.value or "nan")
    columns = []
    for target, scores in by_target.items():
        languages = sorted({language for _, _, language in scores})
        english = [language for language in languages if language == SOURCE_LANGUAGE]
        others = [language for language in languages if language != SOURCE_LANGUAGE]
        columns += [Column(target, results.metrics[target], tuple(g)) for g in (english, others) if g]
    per_seed = [
        {label: _by_seed(by_target[c.target], label, c.languages) for label in results.intermediates} for c in columns
    ]
    cells = {
        label: [_cell(seeds[label], seeds.get(BASELINE, {}) if label != BASELINE else {}) for seeds in per_seed]
        for label in results.intermediates
    }
    return Table(columns, cells, dict(results.missing), dict(results.remarks))


def _by_seed(scores: Mapping[tuple[str, int, str], float], label: str, languages: Sequence[str]) -> dict[int, float]:
    """The average over languages for each seed that has them all."""
    seeds = sorted({seed for name, seed, _ in scores if name == label})
    found = {seed: [scores.get((label, seed, language), math.nan) for language in languages] for seed in seeds}
    return {seed: statistics.fmean(values) for seed, values in found.items() if not any(map(math.isnan, values))}


def _cell(mine: Mapping[int, float], baseline: Mapping[int, float]) -> Cell | None:
    if not mine:
        return None
    gain = statistics.fmean(mine.values()) - statistics.fmean(baseline.values()) if baseline else None
    if shared := sorted(set(mine) & set(baseline)):  # seeds are paired where both have them
        gain = statistics.fmean(mine[seed] - baseline[seed] for seed in shared)
    spread = statistics.stdev(mine.values()) if len(mine) > 1 else None
    return Cell(statistics.fmean(mine.values()), spread, len(mine), gain)


def to_json(results: Results) -> dict[str, Any]:
    """Rows and table as plain data."""
    made = table(results)
    return {
        "rows": [dict(zip((f.name for f in fields(Row)), astuple(row), strict=True)) for row in results.rows],
        "table": {
            label: [
                None
                if cell is None
                else {"target": c.target, "languages": list(c.languages), "metric": c.metric, **vars(cell)}
                for c, cell in zip(made.columns, cells, strict=True)
            ]
            for label, cells in made.cells.items()
        },
        "missing": made.missing,
        "remarks": made.remarks,
    }
