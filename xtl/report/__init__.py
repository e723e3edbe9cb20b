"""The report of a WORKDIR: report/index.html (one self-contained page), report.md, and figures for a paper.

    from xtl import report
    report.write(Workdir("runs/paper"))

It is made from what the run folder holds and from nothing else (no clock, no network), works with any part of the
stages done, and the same results give the same bytes.
"""

from pathlib import Path

from xtl import files
from xtl.runs.workdir import Workdir


def write(workdir: Workdir) -> Path:
    """Write WORKDIR/report from what is done now; returns the path of the page."""
    from xtl.report import figures, markdown, page, significance
    from xtl.report.languages import Atlas
    from xtl.runs.read import read_run
    from xtl.studies import pages

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
    files.atomic_write(folder / "index.html", page.render(parts, studies=pages.write(workdir)))
    return folder / "index.html"
