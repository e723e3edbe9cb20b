"""What the results come to: the headline, the best row per target, benchmark averages, the settings of retrieval."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from xtl.benchmark.aggregate import BENCHMARKS, MAIN_METRIC, Benchmark, overall
from xtl.families import family
from xtl.report.significance import Tests
from xtl.runs.read import Run, Stage, is_english
from xtl.runs.results import BASELINE, Cell
from xtl.task import with_options
from xtl.tasks import catalog


def signed(value: float, digits: int = 1) -> str:
    """`+1.2`, `−0.4` with a minus that reads as one, `0.0`."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if not text.strip("+−0.") else text


# ---------------------------------------------------------------- averages over targets


def mean_gain(run: Run, label: str, columns: Iterable[int]) -> float | None:
    """The mean of a row's differences from the baseline; None where a column lacks one."""
    gains = [cell.gain if (cell := run.table.cells[label][i]) else None for i in columns]
    known = [gain for gain in gains if gain is not None]
    return statistics.fmean(known) if known and len(known) == len(gains) else None


def mean_score(run: Run, label: str, columns: Iterable[int]) -> float | None:
    """The mean of a row's scores; None where a column lacks one."""
    cells = [run.table.cells[label][i] for i in columns]
    known = [cell.mean for cell in cells if cell is not None]
    return statistics.fmean(known) if known and len(known) == len(cells) else None


def others(run: Run) -> list[int]:
    """The columns of zero-shot scores; one without any score (hidden labels) is left out of means."""
    return [i for i in _scored(run) if not is_english(run.table.columns[i].languages)]


def english(run: Run) -> list[int]:
    """The columns of English scores, likewise."""
    return [i for i in _scored(run) if is_english(run.table.columns[i].languages)]


def _scored(run: Run) -> list[int]:
    return [i for i in range(len(run.table.columns)) if any(run.table.cells[label][i] for label in run.labels)]


# ---------------------------------------------------------------- the headline


def headline(run: Run, tests: Tests) -> list[str]:
    """The result in a few sentences; the first is the headline."""
    columns = others(run)
    if not run.scores:
        return ["Nothing is evaluated yet."]
    if not run.has_baseline:
        return [f"No stage without intermediate training ({BASELINE}) is evaluated: there are scores, no differences."]
    gains = {label: mean_gain(run, label, columns) for label in run.labels if label != BASELINE}
    known = {label: gain for label, gain in gains.items() if gain is not None}
    if not known:
        return ["No intermediate task is evaluated on all targets yet, so none can be called the best."]
    best = max(known, key=lambda label: known[label])
    before, after = mean_score(run, BASELINE, columns), mean_score(run, best, columns)
    targets = _count(len(columns), "target")
    if known[best] > 0:
        first = f"Training on English {best} first raises zero-shot scores by {known[best]:.1f} points"
    else:
        first = f"No intermediate task raises zero-shot scores: the best, {best}, changes them"
        first += f" by {signed(known[best])} points"
    if before is not None and after is not None:
        first += f", from {before:.1f} to {after:.1f} on average over {targets}"
    rest = []
    if len(known) > 1:
        helping = sum(gain > 0 for gain in known.values())
        rest.append(f"{helping} of {len(known)} conditions are better than {BASELINE} on average.")
    rest += _significant(run, tests)
    if run.results.missing:
        rest.append(f"{_count(len(run.results.missing), 'stage')} of the table {_is(run.results.missing)} missing.")
    return [first + ".", *rest]


def _significant(run: Run, tests: Tests) -> list[str]:
    """How many differences are more than the chance of training runs."""
    if not tests.cells:
        return []
    if not tests.tested:
        return [
            "No difference can be called significant: the seeds are too few to tell it from the chance of training."
        ]
    significant = [key for key, test in tests.tested.items() if test.significant]
    up = sum(_gain(run, label, i) > 0 for label, i in significant)
    return [
        f"{len(significant)} of {len(tests.tested)} tested differences are significant at a false discovery rate of 5 "
        f"%: {up} up, {len(significant) - up} down."
    ]


def _gain(run: Run, label: str, column: int) -> float:
    cell = run.table.cells[label][column]
    return cell.gain or 0.0 if cell is not None else 0.0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _is(things: Sequence[object] | dict) -> str:
    return "is" if len(things) == 1 else "are"


# ---------------------------------------------------------------- best per target


@dataclass
class Composite:
    """The row that takes each target from the condition that is best on it."""

    chosen: dict[str, str] = field(default_factory=dict)  # target -> condition
    basis: dict[str, str] = field(default_factory=dict)  # target -> the scores that it was chosen on
    cells: list[Cell | None] = field(default_factory=list)

    @property
    def honest(self) -> bool:
        """Whether no choice has looked at test scores."""
        return all(basis == DEV for basis in self.basis.values())


DEV, TEST_ENGLISH, TEST = "development scores", "English test scores", "test scores"


def composite(run: Run) -> Composite:
    """Chosen on development scores where every condition has them; else on test scores: then it is an upper bound."""
    composite = Composite()
    for target in run.targets:
        columns = [i for i, c in enumerate(run.table.columns) if c.target == target]
        rows = [label for label in run.labels if all(run.table.cells[label][i] for i in columns)]
        if len(rows) < 2:
            continue
        dev = {label: [s.dev_score for s in run.stages_of(label, target) if s.state == "done"] for label in rows}
        if all(scores and None not in scores for scores in dev.values()):
            means = {label: statistics.fmean(s for s in scores if s is not None) for label, scores in dev.items()}
            composite.basis[target] = DEV
        else:
            english_columns = [i for i in columns if is_english(run.table.columns[i].languages)]
            compared = english_columns or columns
            means = {label: mean_score(run, label, compared) or 0.0 for label in rows}
            composite.basis[target] = TEST_ENGLISH if compared != columns else TEST
        composite.chosen[target] = max(means, key=lambda label: means[label])  # on a tie the first
    for i, column in enumerate(run.table.columns):
        label = composite.chosen.get(column.target)
        composite.cells.append(run.table.cells[label][i] if label else None)
    return composite


# ---------------------------------------------------------------- benchmark averages


@dataclass
class Averages:
    """Means over the tasks of a benchmark's groups: groups[name] = {condition: score}."""

    benchmark: str
    groups: dict[str, dict[str, float]]
    partial: list[str]  # tasks that lack languages of the benchmark


def averages(run: Run) -> Averages | None:
    """Of the benchmark with most groups complete; None where no group of more than one task is."""
    best = None
    for name, benchmark in BENCHMARKS.items():
        by_label = {label: overall(_task_scores(run, label, benchmark), name) for label in run.labels}
        groups = {}
        for group, tasks in {**benchmark.groups, "overall": tuple(benchmark.languages)}.items():
            scores = {label: means[group] for label, means in by_label.items() if group in means}
            if scores and len(tasks) > 1:
                groups[group] = scores
        partial = [t for t in run.targets if not set(benchmark.languages.get(t, ())) <= set(run.languages(t))]
        if groups and (best is None or len(groups) > len(best.groups)):
            best = Averages(name, groups, partial)
    return best


def _task_scores(run: Run, label: str, benchmark: Benchmark) -> dict[str, float]:
    """The mean of each task over the benchmark's languages (English too), where it is scored by the benchmark's metric
    in all of them; over the run's own languages where it lacks some of those (then the task is `partial`)."""
    means = {}
    for task, languages in benchmark.languages.items():
        if run.results.metrics.get(task) != MAIN_METRIC.get(task):
            continue
        there = run.languages(task)
        scores = [run.score(label, task, x) for x in (languages if set(languages) <= set(there) else there)]
        known = [score for score in scores if score is not None]
        if known and len(known) == len(scores):
            means[task] = statistics.fmean(known)
    return means


# ---------------------------------------------------------------- retrieval


def retrieval_settings(run: Run) -> dict[str, list[str]]:
    """The settings that each retrieval target was evaluated with: scores depend on them, so they are shown together."""
    settings: dict[str, list[str]] = {}
    for stage in run.units:
        for target in stage.evaluations:
            text = setting(stage, target)
            if text and text not in settings.setdefault(target, []):
                settings[target].append(text)
    return settings


def setting(stage: Stage, target: str) -> str:
    """The settings of a stage's scores of a retrieval target (`layer 8 of 12, mean pooling, centred`); else ""."""
    task = catalog().get(target)
    if task is None or not task.retrieval:
        return ""  # asking for a family imports JAX
    options = {**stage.config["evaluate"][target]["options"], **stage.evaluations[target]}
    return family(task).setting(with_options(task, options), stage.config["encoder"]["layers"])
