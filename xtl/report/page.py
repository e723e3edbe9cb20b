"""report/index.html: what the page holds; page.html.j2 says how it looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xtl.report import analysis, graph, significance, stages, tables, template
from xtl.report.figures import KINDS, Figure
from xtl.report.languages import Atlas
from xtl.report.significance import LEVELS, Tests
from xtl.runs.read import Run
from xtl.runs.results import BASELINE


@dataclass(frozen=True)
class Part:
    """One pipeline of the page."""

    run: Run
    tests: Tests
    figures: Sequence[Figure]
    atlas: Atlas


@dataclass(frozen=True)
class StudyPage:
    """The page of a study beside index.html: its pipeline, its study, its file, and the answer in one sentence."""

    pipeline: str
    study: str
    file: str
    sentence: str


def render(parts: Sequence[Part], *, studies: Sequence[StudyPage] = ()) -> str:
    """The page; it links to the pages of the studies of its pipelines."""
    pages = {study.pipeline: study for study in studies}
    pipelines = [{**_pipeline(part), "study": pages.get(part.run.name)} for part in parts]
    return template.render(__package__, "page.html.j2", pipelines=pipelines)


def _pipeline(part: Part) -> dict[str, Any]:
    from markupsafe import Markup

    run, tests = part.run, part.tests
    sentences = analysis.headline(run, tests)
    return {
        "name": run.name,
        "headline": sentences[0],
        "sentences": sentences[1:],
        "facts": stages.facts(run),
        "table": tables.results(run, tests) if run.table.columns else None,
        "columns": run.table.columns,
        "intervals": tables.intervals(run, tests),
        "averages": tables.averages(run),
        "heatmaps": [tables.heatmap(run, part.atlas, target) for target in run.targets if run.languages(target)],
        "measure": part.atlas.measure,
        "figures": {
            kind: [{**vars(figure), "svg": Markup(figure.svg)} for figure in part.figures if figure.kind == kind]
            for kind in KINDS
        },
        "graph": Markup(graph.draw(run)),
        "total": stages.total(run),
        "retrieval": analysis.retrieval_settings(run),
        "problems": stages.problems(run),
        "tests": significance.explained(tests),
        "fallbacks": tests.fallbacks,
        "levels": LEVELS,
        "stages": [stages.section(run, stage) for stage in run.stages.values()],
        "baseline": BASELINE,
        "version": next(iter(stages.versions(run)), ""),
    }
