"""report/report.md: the same results as plain text, for a repository or a mail."""

from collections.abc import Iterator, Sequence

from xtl.report import analysis, significance, stages, tables
from xtl.report.page import Part
from xtl.report.significance import LEVELS
from xtl.runs.results import Cell

LEGEND = (
    "Rows: intermediate task. Columns: score in English, and averaged over the other languages of a target. ± is the\n"
    "standard deviation over seeds; in brackets, the difference from no intermediate training (`none`).\n"
)


def render(parts: Sequence[Part]) -> str:
    """The text of report.md."""
    return "# Results\n\n" + LEGEND + "\n" + "\n".join("\n".join(_pipeline(part)) for part in parts)


def _pipeline(part: Part) -> Iterator[str]:
    run, tests = part.run, part.tests
    yield f"## {run.name}\n"
    yield " ".join(analysis.headline(run, tests)) + "\n"
    yield "\n".join(f"- {name}: {value}" for name, value in stages.facts(run)) + "\n"
    if run.table.columns:
        yield "\n".join(_table(part)) + "\n"
        signs = ", ".join(f"{sign} adjusted p < {level}" for level, sign in LEVELS)
        yield f"Significance: {signs}. {' '.join(significance.explained(tests))}\n"
        yield from (f"- {target}: no intervals over examples ({why})" for target, why in tests.fallbacks.items())
        yield ""
        yield from _intervals(part)
    composite = analysis.composite(run)
    if composite.chosen:
        picks = "; ".join(f"{t} from {composite.chosen[t]} (chosen on {basis})" for t, basis in composite.basis.items())
        remark = "" if composite.honest else " Chosen on test scores, the row is an upper bound."
        yield f"Best per target: {picks}.{remark}\n"
    for target, lines in analysis.retrieval_settings(run).items():
        yield f"{target}: {'; or '.join(lines)}.\n"
    if (averages := analysis.averages(run)) is not None:
        yield "\n".join(_averages(averages)) + "\n"
    yield "\n".join(_problems(part)) + "\n"
    if part.figures:
        yield "### Figures\n\n" + "\n".join(f"- [{f.title}](figures/{f.name}.svg)" for f in part.figures) + "\n"


def _table(part: Part) -> Iterator[str]:
    run, tests, composite = part.run, part.tests, analysis.composite(part.run)
    yield "| intermediate | " + " | ".join(f"{c.target} {c.metric} ({c.group})" for c in run.table.columns) + " |"
    yield "| --- |" + " ---: |" * len(run.table.columns)
    for label, cells in run.table.cells.items():
        yield f"| {label} | " + " | ".join(_cell(c, tests.mark(label, i)) for i, c in enumerate(cells)) + " |"
    if composite.chosen:
        yield "| best per target | " + " | ".join(_cell(cell, "") for cell in composite.cells) + " |"


def _intervals(part: Part) -> Iterator[str]:
    rows = tables.intervals(part.run, part.tests)
    if rows:
        columns = part.run.table.columns
        yield "### 95 % intervals of the differences\n"
        yield "Over training runs unless it says otherwise.\n"
        yield "| intermediate | " + " | ".join(f"{c.target} ({c.group})" for c in columns) + " |"
        yield "| --- |" + " --- |" * len(columns)
        yield from (f"| {row['label']} | " + " | ".join(row["cells"]) + " |" for row in rows)
        yield ""


def _cell(cell: Cell | None, mark: str) -> str:
    if cell is None:
        return "–"
    spread = f" ±{cell.spread:.1f}" if cell.spread is not None else ""
    return f"{cell.mean:.1f}{spread}" + (
        f" ({analysis.signed(cell.gain)}{mark})".replace("*", "\\*") if cell.gain is not None else ""
    )


def _averages(averages: analysis.Averages) -> Iterator[str]:
    yield f"### {averages.benchmark.upper()} averages\n"
    yield "| intermediate | " + " | ".join(averages.groups) + " |"
    yield "| --- |" + " ---: |" * len(averages.groups)
    for label in dict.fromkeys(label for scores in averages.groups.values() for label in scores):
        values = (scores.get(label) for scores in averages.groups.values())
        yield f"| {label} | " + " | ".join("–" if v is None else f"{v:.1f}" for v in values) + " |"
    if averages.partial:
        yield f"\nNot in the benchmark's own set of languages: {', '.join(averages.partial)}."


def _problems(part: Part) -> Iterator[str]:
    problems = stages.problems(part.run)
    if not any(problems[kind] for kind in ("missing", "collapsed", "dropped")):
        yield "Every stage is done, none looks collapsed, and every row of the evaluated data was used."
        return
    yield "### Missing or doubtful\n"
    yield from (f"- {name} ({state}){': ' + why if why else ''}" for name, state, why in problems["missing"])
    yield from (f"- {name} (collapse): {why}" for name, why in problems["collapsed"])
    yield from (f"- {task} {x}: {rows} rows not used ({why})" for task, x, why, rows, _ in problems["dropped"])
