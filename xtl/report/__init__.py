"""The report of a work directory: report/index.html (one self-contained page), report.md, and figures for a paper.

    from xtl import report
    report.write(Workdir("runs/paper"))

Everything in it comes from the run folder (no clock, no network). Any subset of the stages may be done, and equal
results give equal bytes. The modules of this package are also the toolkit of `xtl.studies`: the frame of a page
(template), the style of figures (style), names beside points (labels), p values, and the table of languages.
"""

from collections.abc import Sequence
from pathlib import Path

from xtl import files
from xtl.report import figures, markdown, page, significance
from xtl.report.languages import Atlas
from xtl.report.page import StudyPage
from xtl.runs.read import read_run
from xtl.runs.workdir import Workdir


def write(workdir: Workdir, *, studies: Sequence[StudyPage] = ()) -> Path:
    """Write WORKDIR/report from what is done now; returns the path of the page.

    studies: pages that are already in WORKDIR/report, for the links from their pipelines.
    """
    folder = workdir.path / "report"
    names = list(dict.fromkeys(entry["pipeline"] for entry in workdir.read_plan()))
    parts = []
    for name in names:
        run = read_run(workdir, name)
        atlas = Atlas(next((stage.config["data"] for stage in run.units if stage.config), {}))
        prefix = f"{name}-" if len(names) > 1 else ""
        drawn = figures.draw(run, atlas, folder / "figures", prefix=prefix)
        parts.append(page.Part(run, significance.compare(run), drawn, atlas))
    files.atomic_write(folder / "report.md", markdown.render(parts))
    files.atomic_write(folder / "index.html", page.render(parts, studies=studies))
    return folder / "index.html"
