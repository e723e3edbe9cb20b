"""The pages of the studies of a WORKDIR: report/<pipeline>.html and .md, figures, tables as CSV."""

import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pandas as pd

from xtl import files
from xtl.errors import XtlError
from xtl.report import style
from xtl.runs.workdir import Workdir
from xtl.studies import run
from xtl.studies.analysis import Analysis
from xtl.studies.references import cited
from xtl.studies.statistics import Estimate


@dataclass(frozen=True)
class Page:
    """A written page: its pipeline, its study, the file beside index.html, and what it says first."""

    pipeline: str
    study: str
    file: str
    sentence: str


def write(workdir: Workdir) -> list[Page]:
    """Write the page of every study recorded in WORKDIR, also of one that has no answer yet."""
    pages = []
    for pipeline, settings in run.recorded(workdir).items():
        folder = workdir.path / "report"
        try:
            made = run.analyse(workdir, pipeline)
        except XtlError as error:
            sentence = f"There is no answer yet: {error}"
            content: dict[str, Any] = dict.fromkeys(("figures", "tables", "references"), ())
            content |= {"made": None, "reason": str(error)}
            markdown = f"# {settings['name']}\n\n{sentence}\n"
        else:
            sentence = _capital(made.sentences[0])
            content = _content(made, folder, pipeline)
            markdown = _markdown(made, content)
        html = _render(pipeline=pipeline, study=settings["name"], **content)
        files.atomic_write(folder / f"{pipeline}.html", html)
        files.atomic_write(folder / f"{pipeline}.md", markdown)
        pages.append(Page(pipeline, settings["name"], f"{pipeline}.html", sentence))
    return pages


def _content(made: Analysis, folder: Any, pipeline: str) -> dict[str, Any]:
    """Figures and tables written to their files, and what the page shows of them."""
    import matplotlib
    from cycler import cycler
    from markupsafe import Markup

    figures = []
    for figure in made.figures:
        name = figure.name if figure.name.startswith(pipeline) else f"{pipeline}-{figure.name}"
        with (
            style.canvas(*figure.size) as (drawn, axes),
            matplotlib.rc_context({"axes.prop_cycle": cycler(color=style.SERIES)}),
        ):
            axes.set_prop_cycle(None)
            figure.draw(axes)
            style.write(drawn, folder / "figures", name)
            svg = style.inline(drawn, name, title=figure.caption)
        figures.append({"name": name, "caption": figure.caption, "svg": Markup(svg)})
    tables = []
    for number, (caption, table) in enumerate(made.tables.items(), 1):
        name = f"{pipeline}-{number}-{_slug(caption)}"
        files.atomic_write(folder / "tables" / f"{name}.csv", _csv(table))
        plain = _flat(table)
        rows = [[_shown(value, column) for column, value in zip(plain, row, strict=True)] for row in plain.to_numpy()]
        tables.append({"name": name, "caption": caption, "heads": [str(c) for c in plain], "rows": rows})
    references = cited(f"{made.methods} {made.design}")
    return {
        "made": made,
        "reason": "",
        "figures": figures,
        "tables": tables,
        "references": references,
        "headline": [_estimate(e) for e in made.headline],
        "sentences": [_capital(sentence) for sentence in made.sentences],
    }


def _estimate(found: Estimate) -> dict[str, str]:
    p = "< 0.001" if found.p < 0.001 else f"{found.p:.3f}"
    return {
        "name": _capital(found.name),
        "value": f"{found.value:.2f}",
        "interval": f"{found.low:.2f} to {found.high:.2f}",
        "p": p,
        "n": f"{found.n} {found.unit}",
        "method": found.method,
        "told": "1" if found.p < 0.05 else "",
    }


def _render(**content: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("xtl.studies", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    report = resources.files("xtl.report")
    inline = {name: Markup(report.joinpath(f"page.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}
    return environment.get_template("study.html.j2").render(**content, **inline)


# ---------------------------------------------------------------- words and numbers


def _capital(text: str) -> str:
    """First letter upper case, unless the text starts with a symbol or a name of a condition."""
    return text[:1].upper() + text[1:] if re.match(r"[a-z]+\b(?!_)", text) else text


def _slug(text: str) -> str:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "-".join(words[:5])


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """The index as columns, where it says something."""
    plain = table.reset_index() if table.index.name or table.index.nlevels > 1 else table
    if plain is table and not isinstance(table.index, pd.RangeIndex):
        plain = table.reset_index().rename(columns={"index": ""})
    return plain


def _shown(value: Any, column: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:.2f} to {value[1]:.2f}"
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "–"
    if isinstance(value, float):
        if str(column) == "p" or str(column).endswith(" p"):
            return "< 0.001" if value < 0.001 else f"{value:.3f}"
        return f"{value:.0f}" if value.is_integer() and abs(value) >= 100 else f"{value:.2f}"
    return str(value)


def _csv(table: pd.DataFrame) -> str:
    """Intervals as two columns, numbers in full."""
    plain = _flat(table).copy()
    for column in list(plain):
        if plain[column].map(lambda value: isinstance(value, tuple)).any():
            at = plain.columns.get_loc(column)
            plain.insert(at, f"{column} high", [v[1] if isinstance(v, tuple) else None for v in plain[column]])
            plain.insert(at, f"{column} low", [v[0] if isinstance(v, tuple) else None for v in plain[column]])
            plain = plain.drop(columns=column)
    return str(plain.to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def _markdown(made: Analysis, content: dict[str, Any]) -> str:
    parts = [f"# {made.study}: {made.question}", made.design, "## Answer"]
    parts.append("\n".join(f"- {sentence}" for sentence in content["sentences"]))
    parts += [f"![{f['caption']}](figures/{f['name']}.png)" for f in content["figures"]]
    for table in content["tables"]:
        lines = [f"## {table['caption']}", "", f"| {' | '.join(table['heads'])} |"]
        lines += ["| " + " | ".join(["---"] * len(table["heads"])) + " |"]
        lines += [f"| {' | '.join(row)} |" for row in table["rows"]]
        parts.append("\n".join(lines))
    parts += ["## Limits", "\n".join(f"- {limit}" for limit in made.limits), "## Methods", made.methods]
    parts.append("\n".join(f"- {reference}" for reference in content["references"]))
    return "\n\n".join(parts) + "\n"
