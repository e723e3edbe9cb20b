"""The pages of the studies of a WORKDIR: report/<pipeline>.html and .md, figures, tables as CSV."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from xtl import files
from xtl.errors import XtlError
from xtl.report import p_values, style, template
from xtl.report.page import StudyPage
from xtl.runs.workdir import Workdir
from xtl.studies.analysis import Analysis, Figure
from xtl.studies.record import recorded
from xtl.studies.references import cited
from xtl.studies.run import analyse
from xtl.studies.statistics import Estimate


def write(workdir: Workdir) -> list[StudyPage]:
    """Write the page of every study recorded in WORKDIR, also of one that has no answer yet."""
    folder, pages = workdir.path / "report", []
    for pipeline, settings in recorded(workdir).items():
        study = settings["name"]
        try:
            analysis = analyse(workdir, pipeline)
        except XtlError as error:
            sentence = f"There is no answer yet: {error}"
            content: dict[str, Any] = {"analysis": None, "reason": str(error)}
            markdown = f"# {study}\n\n{sentence}\n"
        else:
            sentence = _capital(analysis.sentences[0])
            content = _content(analysis, folder, pipeline)
            markdown = _markdown(analysis, content)
        html = template.render(__package__, "study.html.j2", pipeline=pipeline, study=study, **content)
        files.atomic_write(folder / f"{pipeline}.html", html)
        files.atomic_write(folder / f"{pipeline}.md", markdown)
        pages.append(StudyPage(pipeline, study, f"{pipeline}.html", sentence))
    return pages


def _content(analysis: Analysis, folder: Path, pipeline: str) -> dict[str, Any]:
    """What the page shows; writes the files of figures and tables."""
    return {
        "analysis": analysis,
        "figures": [_figure(figure, folder, pipeline) for figure in analysis.figures],
        "tables": [
            _table(number, caption, table, folder, pipeline)
            for number, (caption, table) in enumerate(analysis.tables.items(), 1)
        ],
        "references": cited(f"{analysis.methods} {analysis.design}"),
        "headline": [_estimate(estimate) for estimate in analysis.headline],
        "sentences": [_capital(sentence) for sentence in analysis.sentences],
    }


def _figure(figure: Figure, folder: Path, pipeline: str) -> dict[str, Any]:
    import matplotlib
    from cycler import cycler
    from markupsafe import Markup

    name = figure.name if figure.name.startswith(pipeline) else f"{pipeline}-{figure.name}"
    with (
        style.canvas(*figure.size) as (canvas, axes),
        matplotlib.rc_context({"axes.prop_cycle": cycler(color=style.SERIES)}),
    ):
        axes.set_prop_cycle(None)
        figure.draw(axes)
        style.write(canvas, folder / "figures", name)
        svg = style.inline(canvas, name, title=figure.caption)
    return {"name": name, "caption": figure.caption, "svg": Markup(svg)}


def _table(number: int, caption: str, table: pd.DataFrame, folder: Path, pipeline: str) -> dict[str, Any]:
    name = f"{pipeline}-{number}-{_slug(caption)}"
    files.atomic_write(folder / "tables" / f"{name}.csv", _csv(table))
    flat = _flat(table)
    rows = [[_shown(value, column) for column, value in zip(flat, row, strict=True)] for row in flat.to_numpy()]
    return {"name": name, "caption": caption, "heads": [str(column) for column in flat], "rows": rows}


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "name": _capital(estimate.name),
        "value": f"{estimate.value:.2f}",
        "interval": f"{estimate.low:.2f} to {estimate.high:.2f}",
        "p": p_values.equation(estimate.p),
        "n": f"{estimate.n} {estimate.unit}",
        "method": estimate.method,
        "significant": estimate.p < 0.05,
    }


# ---------------------------------------------------------------- words and numbers


def _capital(text: str) -> str:
    """First letter upper case, unless the text starts with a symbol or a name of a condition."""
    return text[:1].upper() + text[1:] if re.match(r"[a-z]+\b(?!_)", text) else text


def _slug(text: str) -> str:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "-".join(words[:5])


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """The index as columns, unless it only numbers the rows."""
    flat = table.reset_index() if table.index.name or table.index.nlevels > 1 else table
    if flat is table and not isinstance(table.index, pd.RangeIndex):
        flat = table.reset_index().rename(columns={"index": ""})
    return flat


def _shown(value: Any, column: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:.2f} to {value[1]:.2f}"
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "–"
    if isinstance(value, float):
        if str(column) == "p" or str(column).endswith(" p"):
            return p_values.number(value)
        return f"{value:.0f}" if value.is_integer() and abs(value) >= 100 else f"{value:.2f}"
    return str(value)


def _csv(table: pd.DataFrame) -> str:
    """Intervals as two columns, numbers in full."""
    flat = _flat(table).copy()
    for column in list(flat):
        if flat[column].map(lambda value: isinstance(value, tuple)).any():
            place = flat.columns.get_loc(column)
            flat.insert(place, f"{column} high", [v[1] if isinstance(v, tuple) else None for v in flat[column]])
            flat.insert(place, f"{column} low", [v[0] if isinstance(v, tuple) else None for v in flat[column]])
            flat = flat.drop(columns=column)
    return str(flat.to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def _markdown(analysis: Analysis, content: dict[str, Any]) -> str:
    parts = [f"# {analysis.study}: {analysis.question}", analysis.design, "## Answer"]
    parts.append("\n".join(f"- {sentence}" for sentence in content["sentences"]))
    parts += [f"![{f['caption']}](figures/{f['name']}.png)" for f in content["figures"]]
    for table in content["tables"]:
        lines = [f"## {table['caption']}", "", f"| {' | '.join(table['heads'])} |"]
        lines += ["| " + " | ".join(["---"] * len(table["heads"])) + " |"]
        lines += [f"| {' | '.join(row)} |" for row in table["rows"]]
        parts.append("\n".join(lines))
    parts += ["## Limits", "\n".join(f"- {limit}" for limit in analysis.limits), "## Methods", analysis.methods]
    parts.append("\n".join(f"- {reference}" for reference in content["references"]))
    return "\n\n".join(parts) + "\n"
