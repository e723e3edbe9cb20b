"""Result tables whose trainings differ by chance as real ones do, for the error rates of the report's marks.

    points(condition, target, language, seed) = effect + intermediate run + target run + run x language
    P(item right) = logistic(language + difficulty of the item + points)

An intermediate run is shared by all targets of its condition and seed; the baseline has none. Retrieval is evaluated on
the encoder as it is handed on: its baseline is not trained, and all seeds share one stage. Items are the same for all
runs, and parallel over languages.

    python -m tests.support.simulate_runs      prints the rates of docs/studies.md
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from unittest import mock

import numpy as np

from xtl.errors import XtlError
from xtl.report import significance
from xtl.report.significance import Tests
from xtl.runs.read import Run, Stage
from xtl.runs.results import BASELINE, Results, Row, table
from xtl.task import Loaded

LANGUAGES = ("en", "de", "hi", "sw")
TARGETS = ("xnli", "pawsx", "xcopa", "tatoeba")
TRAINED = TARGETS[:3]
CONDITIONS = ("mnli", "squad_v1", "qqp")
METRIC = "accuracy"


@dataclass
class Simulated:
    """One table, and the items behind it: hits[stage, language] is float64 [N]."""

    run: Run
    hits: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def compare(self, *, predictions: bool) -> Tests:
        """The tests of the table; without predictions, none over examples."""

        def load(stage: Stage, target: str, language: str):
            if not predictions:
                raise XtlError("no predictions")
            return None, language, Loaded([])

        def ratios(stage: Stage, gold, *, metric: str) -> np.ndarray:
            hits = self.hits[stage.trained_as, gold[1]]
            return np.stack([hits, np.ones_like(hits)], axis=-1)

        with mock.patch.object(significance, "load_gold", load), mock.patch.object(significance, "ratios", ratios):
            return significance.compare(self.run)


def simulate(
    rng: np.random.Generator,
    *,
    seeds: int,
    target_sd: float,
    intermediate_sd: float,
    effects: Mapping[str, float] | None = None,
    items: int = 2000,
) -> Simulated:
    """SDs and effects (by condition, on every target) in points of accuracy."""
    simulated = Simulated(Run("paper", {}, Results(), table(Results()), {}))
    rows = []
    for condition in (BASELINE, *CONDITIONS):
        effect = (effects or {}).get(condition, 0.0)
        before = rng.normal(0, intermediate_sd, seeds) if condition != BASELINE else np.zeros(seeds)
        for target in TARGETS:
            own = rng.normal(0, target_sd, seeds) if target in TRAINED else np.zeros(seeds)
            points_sl = (effect + before + own)[:, None] + np.zeros(len(LANGUAGES))
            trained = condition != BASELINE or target in TRAINED
            if trained:
                points_sl = points_sl + rng.normal(0, (target_sd + intermediate_sd) / 4, points_sl.shape)
            ease_n, level_l = _difficulties(target, items)
            logits_sln = level_l[:, None] + ease_n + _in_logits(points_sl, level_l[:, None] + ease_n)[..., None]
            p_sln = 1 / (1 + np.exp(-logits_sln))
            hits_sln = (rng.random(p_sln.shape) < p_sln).astype(float) if trained else _expected(rng, p_sln)
            for seed in range(seeds):
                first = seed if trained else 0
                stage = _stage(simulated.run, condition, target, seed, first)
                for x, language in enumerate(LANGUAGES):
                    hits = hits_sln[first, x]
                    simulated.hits[stage.name, language] = hits
                    score = 100 * hits.mean()
                    rows.append(Row(condition, target, language, "test", seed, METRIC, f"{score:.4f}", stage.name))
                    simulated.run.scores.setdefault((condition, target, language), {})[seed] = score
    results = Results(rows, [BASELINE, *CONDITIONS], dict.fromkeys(TARGETS, METRIC))
    simulated.run.results, simulated.run.table = results, table(results)
    return simulated


def _difficulties(target: str, items: int) -> tuple[np.ndarray, np.ndarray]:
    """The test set of a target, the same in every table: ease of its items [N], level of its languages [L], logits."""
    rng = np.random.default_rng([items, TARGETS.index(target)])
    return rng.normal(0, 3.0, items), rng.normal(1.0, 0.4, len(LANGUAGES))


def _in_logits(points_sl: np.ndarray, logits_ln: np.ndarray) -> np.ndarray:
    """Points of accuracy as a shift of all logits, to first order: [S, L]."""
    p = 1 / (1 + np.exp(-logits_ln))
    return points_sl / 100 / (p * (1 - p)).mean(axis=1)


def _expected(rng: np.random.Generator, p_sln: np.ndarray) -> np.ndarray:
    """Hits with these probabilities whose sum is the expected one (systematic sampling), so that a null about a score
    that is not random is exactly true on this test set."""
    steps = np.floor(p_sln.cumsum(axis=-1) + rng.random((*p_sln.shape[:-1], 1)))
    return np.diff(steps, axis=-1, prepend=0.0)


def _stage(run: Run, condition: str, target: str, seed: int, trained: int) -> Stage:
    """The stage of one cell and seed, added to the run beside the intermediate stage that it starts from."""
    parents = () if condition == BASELINE else (f"{condition}-s{seed}",)
    for parent in parents:
        run.stages[parent] = _entry(parent, "intermediate", condition, seed, (), (condition,), (), parent)
    name, tasks = f"{condition}-{target}-s{seed}", (target,) if target in TRAINED else ()
    stage = _entry(name, "target" if tasks else "eval", condition, seed, parents, tasks, (target,),
                   f"{condition}-{target}-s{trained}")  # fmt: skip
    run.stages[name] = stage
    return stage


def _entry(name, phase, intermediate, seed, parents, tasks, evaluated, trained_as) -> Stage:
    return Stage(
        name=name, phase=phase, intermediate=intermediate, seed=seed, start="", parents=parents, tasks=tasks,
        evaluated=evaluated, fingerprint=trained_as, trained_as=trained_as, folder="", state="done", config={},
        status={}, log=(), evaluations={task: {} for task in evaluated},
    )  # fmt: skip


# ---------------------------------------------------------------- error rates


@dataclass(frozen=True)
class Rates:
    """Shares over many tables."""

    cells: float  # of the cells of the conditions asked for, with p < 0.05 before adjustment
    marked: float  # of the same cells, with a mark
    tables: float  # of the tables with any mark
    examples: float  # of the cells asked for whose interval over examples leaves out 0


def rates(
    *, tables: int, seeds: int, sd: float, effects: Mapping[str, float] | None = None, predictions: bool = False
) -> Rates:
    """Error rates without effects; with effects, the power for their conditions. sd: of each kind of run."""
    counts = []
    for number in range(tables):
        rng = np.random.default_rng([number, seeds, round(10 * sd)])
        simulated = simulate(rng, seeds=seeds, target_sd=sd, intermediate_sd=sd, effects=effects)
        tests = simulated.compare(predictions=predictions)
        cells = [test for (label, _), test in tests.cells.items() if not effects or label in effects]
        apart = [test.over_examples is not None and test.over_examples.low * test.over_examples.high > 0
                 for test in cells]  # fmt: skip
        counts.append((
            np.mean([test.p is not None and test.p < significance.ALPHA for test in cells]),
            np.mean([bool(test.mark) for test in cells]),
            any(test.mark for test in tests.cells.values()),
            np.mean(apart),
        ))  # fmt: skip
    return Rates(*map(float, np.mean(counts, axis=0)))


def main() -> None:
    """The tables of docs/studies.md."""
    print("| seeds | run SD | p < .05, cells | marked cells | tables with a mark | power at 3 points | marked |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for seeds in (1, 2, 3, 5):
        for sd in (0.5, 1.0, 2.0):
            null = rates(tables=400, seeds=seeds, sd=sd)
            power = rates(tables=100, seeds=seeds, sd=sd, effects={"mnli": 3.0})
            shares = (null.cells, null.marked, null.tables, power.cells, power.marked)
            print(f"| {seeds} | {sd} | " + " | ".join(f"{share:.3f}" for share in shares) + " |", flush=True)
    significance.RESAMPLES = 400
    for sd in (0.5, 1.0, 2.0):
        share = rates(tables=40, seeds=1, sd=sd, predictions=True).examples
        print(f"one seed, run SD {sd}: {share:.3f} of the intervals over examples leave out 0")


if __name__ == "__main__":
    main()
