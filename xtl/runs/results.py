"""results.csv, and the table of a pipeline: rows = intermediate task, columns = target x (English, others' average).

Both are rebuilt from the eval/*.json of the finished stages, sorted and with a fixed number format: equal scores give
equal bytes, however often the run was interrupted and whichever launch trained which stage.
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
TABLED = ("target", "eval")  # phases whose evaluations are results; evaluations of other phases only monitor training


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
    """All rows, the metric that the table shows of each target, and the stages that are missing."""

    rows: list[Row] = field(default_factory=list)
    intermediates: list[str] = field(default_factory=list)  # in the order of the config, the baseline first
    metrics: dict[str, str] = field(default_factory=dict)  # target -> the metric that stands for it
    missing: dict[str, str] = field(default_factory=dict)  # stage -> state
    remarks: dict[str, str] = field(default_factory=dict)  # stage -> a reservation about its numbers


def collect(workdir: Workdir, *, pipeline: str = "") -> Results:
    """The results of every pipeline that was launched in WORKDIR, or of one."""
    results = Results()
    for entry in workdir.read_plan():
        if pipeline not in ("", entry["pipeline"]):
            continue
        if entry.get("remark"):
            results.remarks[entry["name"]] = entry["remark"]
        if entry["phase"] not in TABLED:
            continue
        if entry["intermediate"] not in results.intermediates:
            results.intermediates.append(entry["intermediate"])
        if entry["state"] != "done":
            results.missing[entry["name"]] = entry["state"]
            continue
        for task in entry["evaluate"]:
            report = files.read_json(workdir.path / "stages" / entry["folder"] / "eval" / f"{task}.json")
            results.metrics.setdefault(task, report["metric"])
            results.rows.extend(_rows(entry, report))
    results.rows = sorted(set(results.rows))
    results.intermediates.sort(key=lambda label: label != BASELINE)
    return results


def _rows(entry: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[Row]:
    """One row per language and metric; a language without labels has a row with an empty value."""
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
    """Rewrite WORKDIR/results.csv from what is done now."""
    with workdir.claim("results", wait=True):  # read under the lock, so that the last writer has the newest state
        results = collect(workdir)
        files.atomic_write(workdir.path / "results.csv", to_csv(results.rows))
    return results


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
    """Rows by intermediate; `cells[intermediate][column]` is None where there is no score yet."""

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
        {label: language_means(by_target[c.target], label, c.languages) for label in results.intermediates}
        for c in columns
    ]
    cells = {
        label: [_cell(seeds[label], seeds.get(BASELINE, {}) if label != BASELINE else {}) for seeds in per_seed]
        for label in results.intermediates
    }
    return Table(columns, cells, dict(results.missing), dict(results.remarks))


def language_means(
    scores: Mapping[tuple[str, int, str], float], label: str, languages: Sequence[str]
) -> dict[int, float]:
    """The average over languages for each seed that has them all."""
    seeds = sorted({seed for name, seed, _ in scores if name == label})
    by_seed = {seed: [scores.get((label, seed, language), math.nan) for language in languages] for seed in seeds}
    return {seed: statistics.fmean(values) for seed, values in by_seed.items() if not any(map(math.isnan, values))}


def _cell(scores: Mapping[int, float], baseline: Mapping[int, float]) -> Cell | None:
    if not scores:
        return None
    gain = statistics.fmean(scores.values()) - statistics.fmean(baseline.values()) if baseline else None
    if shared := sorted(set(scores) & set(baseline)):  # seeds are paired where both have them
        gain = statistics.fmean(scores[seed] - baseline[seed] for seed in shared)
    spread = statistics.stdev(scores.values()) if len(scores) > 1 else None
    return Cell(statistics.fmean(scores.values()), spread, len(scores), gain)


def to_json(results: Results) -> dict[str, Any]:
    """Rows and table as plain data."""
    shown = table(results)
    return {
        "rows": [dict(zip((f.name for f in fields(Row)), astuple(row), strict=True)) for row in results.rows],
        "table": {
            label: [
                None
                if cell is None
                else {"target": c.target, "languages": list(c.languages), "metric": c.metric, **vars(cell)}
                for c, cell in zip(shown.columns, cells, strict=True)
            ]
            for label, cells in shown.cells.items()
        },
        "missing": shown.missing,
        "remarks": shown.remarks,
    }
