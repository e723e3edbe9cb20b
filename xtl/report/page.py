"""report/index.html: one self-contained page; what it says is worked out here, how it looks is page.html.j2."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from xtl.config.fingerprint import digest
from xtl.logs import duration
from xtl.report import analysis, graph
from xtl.report.analysis import signed
from xtl.report.figures import Figure
from xtl.report.languages import Atlas
from xtl.report.significance import LEVELS, Tests
from xtl.runs.read import Run, Stage
from xtl.runs.restarts import remark
from xtl.runs.results import BASELINE, Cell

FULL = 6.0  # points: from here the colour of a difference is at its strongest, unless the table holds larger ones


@dataclass(frozen=True)
class Part:
    """One pipeline of the page."""

    run: Run
    tests: Tests
    figures: Sequence[Figure]
    atlas: Atlas


def render(parts: Sequence[Part], *, studies: Sequence[Any] = ()) -> str:
    """The page; studies: pages beside it (xtl.studies.pages.Page), by pipeline."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("xtl.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    files = resources.files("xtl.report")
    inline = {name: Markup(files.joinpath(f"page.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}
    pipelines = [
        {**_pipeline(part), "study": next((s for s in studies if s.pipeline == part.run.name), None)} for part in parts
    ]
    return environment.get_template("page.html.j2").render(pipelines=pipelines, **inline)


def _pipeline(part: Part) -> dict[str, Any]:
    from markupsafe import Markup

    run, tests = part.run, part.tests
    sentences = analysis.headline(run, tests)
    figures = {kind: [f for f in part.figures if f.kind == kind] for kind in ("distance", "curve", "sweep", "heatmap")}
    marked = {kind: [{**vars(f), "svg": Markup(f.svg)} for f in found] for kind, found in figures.items()}
    return {
        "name": run.name,
        "headline": sentences[0],
        "sentences": sentences[1:],
        "facts": facts(run),
        "table": _table(run, tests) if run.table.columns else None,
        "averages": _averages(run),
        "heatmaps": [_heatmap(part, target) for target in run.targets if run.languages(target)],
        "measure": part.atlas.measure,
        "figures": marked,
        "graph": Markup(graph.draw(run)),
        "total": _total(run),
        "retrieval": analysis.retrieval_settings(run),
        "problems": problems(run),
        "tests": tests_in_words(tests),
        "fallbacks": tests.fallbacks,
        "levels": LEVELS,
        "stages": [_stage(run, stage) for stage in run.stages.values()],
        "baseline": BASELINE,
        "version": next(iter(versions(run)), ""),
    }


# ---------------------------------------------------------------- header


def versions(run: Run) -> list[str]:
    return sorted({str(stage.status["xtl"]) for stage in run.units if "xtl" in stage.status})


def facts(run: Run) -> list[tuple[str, str]]:
    """(what, value) of what was run; times are those of the run's own files."""
    done = [stage for stage in run.units if stage.state == "done"]
    finished = [stage.status["finished"] for stage in done if "finished" in stage.status]
    revisions = sorted({str(stage.status.get("revision", ""))[:10] for stage in done} - {""})
    devices = sorted({str(stage.status["devices"]) for stage in done if stage.status.get("devices")})
    seconds, tokens, flops = graph.total(done)
    languages = {language for _, _, language in run.scores}
    config = digest([[stage.name, stage.fingerprint] for stage in run.stages.values()])
    encoder = next((stage.config["encoder"] for stage in run.units if stage.config), None)
    data = next((stage.config["data"] for stage in run.units if stage.config), None)
    found = [
        ("stages", f"{len(done)} of {len(run.units)} done"),
        ("seeds", ", ".join(map(str, sorted({stage.seed for stage in run.stages.values()})))),
        ("scored", f"{len(run.targets)} targets, {len(languages)} languages"),
        ("compute", f"{duration(seconds)}, {graph.short(tokens)} tokens, {graph.short(flops)}FLOP"),
        ("devices", ", ".join(devices)),
        ("encoder", f"{encoder['size']}: {encoder['layers']} layers, {encoder['hidden']} wide" if encoder else ""),
        ("data", str(data["source"]) if data else ""),
        ("results of", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(max(finished))) if finished else ""),
        ("config", config[:12]),
        ("xtl", " ".join([*versions(run), _few(revisions)])),
    ]
    return [(what, value) for what, value in found if value]


def _few(revisions: Sequence[str]) -> str:
    """The git revision, or how many different ones have worked here."""
    if len(revisions) > 1:
        return f"at {len(revisions)} revisions (see each stage)"
    return f"at {revisions[0]}" if revisions else ""


def _total(run: Run) -> str:
    seconds, tokens, flops = graph.total([stage for stage in run.units if stage.state == "done"])
    return f"{duration(seconds)} of wall time, {graph.short(tokens)} training tokens, {graph.short(flops)}FLOP"


# ---------------------------------------------------------------- the table


def _shade(gain: float | None, most: float) -> dict[str, Any]:
    """CSS class and strength of a difference's colour."""
    if gain is None or abs(gain) < 0.05:
        return {"side": "", "strength": 0}
    return {"side": "up" if gain > 0 else "down", "strength": round(8 + 62 * min(abs(gain) / most, 1.0))}


def _strongest(gains: Iterator[float | None]) -> float:
    """Where the colour ends: at the 95th percentile, so that one outlier does not bleach all others."""
    sizes = sorted(abs(gain) for gain in gains if gain is not None)
    return max(FULL, sizes[int(0.95 * (len(sizes) - 1))]) if sizes else FULL


def _table(run: Run, tests: Tests) -> dict[str, Any]:
    columns, chosen = run.table.columns, analysis.composite(run)
    cells = run.table.cells
    most = _strongest(cell.gain for row in cells.values() for cell in row if cell)
    tops = [max((c.mean for row in cells.values() if (c := row[i])), default=None) for i in range(len(columns))]
    rows = []
    for label, row in cells.items():
        made = []
        for i, cell in enumerate(row):
            stages = run.stages_of(label, columns[i].target)
            made.append(_cell(cell, most, link=stages[0].name if stages else "", test=tests.cells.get((label, i))))
            made[-1]["best"] = cell is not None and cell.mean == tops[i]
        rows.append({"label": label, "cells": made, "means": _means(run, label, most), "baseline": label == BASELINE})
    groups: list[dict[str, Any]] = []
    for column in columns:
        if not groups or groups[-1]["target"] != column.target:
            groups.append({"target": column.target, "metric": column.metric, "span": 0})
        groups[-1]["span"] += 1
    composite = None
    if chosen.chosen:
        made = []
        for cell, column in zip(chosen.cells, columns, strict=True):
            label = chosen.chosen.get(column.target, "")
            stages = run.stages_of(label, column.target) if label else []
            made.append({**_cell(cell, most, link=stages[0].name if stages else ""), "chosen": label})
        composite = {"cells": made, "honest": chosen.honest, "means": _composite_means(chosen, run, most)}
        composite["basis"] = {
            basis: [t for t, b in chosen.basis.items() if b == basis] for basis in dict.fromkeys(chosen.basis.values())
        }
    heads = [
        {"text": c.group, "languages": ", ".join(c.languages), "first": _opens(columns, i)}
        for i, c in enumerate(columns)
    ]
    return {"groups": groups, "heads": heads, "rows": rows, "composite": composite, "spread": _has_spread(run)}


def _opens(columns: Sequence[Any], i: int) -> bool:
    return i == 0 or columns[i].target != columns[i - 1].target


def _has_spread(run: Run) -> bool:
    return any(cell and cell.spread is not None for row in run.table.cells.values() for cell in row)


def _cell(cell: Cell | None, most: float, *, link: str = "", test: Any = None) -> dict[str, Any]:
    if cell is None:
        return {
            "text": "–",
            "value": "",
            "gain": "",
            "spread": "",
            "mark": "",
            "title": "not there yet",
            "link": link,
        } | _shade(None, 1)
    told = [f"{cell.mean:.2f}, mean of {cell.seeds} seed{'s' if cell.seeds > 1 else ''}"]
    if cell.gain is not None:
        told.append(f"{signed(cell.gain, 2)} against {BASELINE}")
    if test is not None and test.low is not None:
        told.append(f"95 % interval {signed(test.low, 2)} to {signed(test.high, 2)}")
    if test is not None:
        told.append(f"adjusted p = {test.adjusted:.3f} (over {test.unit})")
    return {
        "text": f"{cell.mean:.1f}",
        "value": f"{cell.mean:.4f}",
        "gain": "" if cell.gain is None else signed(cell.gain),
        "spread": "" if cell.spread is None else f"±{cell.spread:.1f}",
        "mark": test.mark if test is not None else "",
        "title": "; ".join(told),
        "link": link,
    } | _shade(cell.gain, most)


def _means(run: Run, label: str, most: float) -> list[dict[str, Any]]:
    """Means over all targets: of English, of the others; empty for a single target."""
    if len(run.targets) < 2:
        return []
    made = []
    for columns in (analysis.english(run), analysis.others(run)):
        score = analysis.mean_score(run, label, columns)
        gain = analysis.mean_gain(run, label, columns) if label != BASELINE else None
        made.append(_mean(score, gain, most))
    return made


def _mean(score: float | None, gain: float | None, most: float) -> dict[str, Any]:
    return _cell(None if score is None else Cell(score, None, 1, gain), most) | {
        "title": "mean over targets" if score is not None else "not all targets are there"
    }


def _composite_means(chosen: analysis.Composite, run: Run, most: float) -> list[dict[str, Any]]:
    if len(run.targets) < 2:
        return []
    made = []
    for columns in (analysis.english(run), analysis.others(run)):
        cells = [chosen.cells[i] for i in columns]
        if not cells or None in cells:
            made.append(_mean(None, None, most))
            continue
        gains = [cell.gain or 0.0 for cell in cells if cell]
        score = sum(cell.mean for cell in cells if cell) / len(cells)
        made.append(_mean(score, sum(gains) / len(gains) if run.has_baseline else None, most))
    return made


def _averages(run: Run) -> dict[str, Any] | None:
    found = analysis.averages(run)
    if found is None:
        return None
    gains = [v - b for s in found.groups.values() if (b := s.get(BASELINE)) is not None for v in s.values()]
    most = _strongest(iter(gains))
    rows = []
    for label in run.labels:
        cells = []
        for scores in found.groups.values():
            score, base = scores.get(label), scores.get(BASELINE)
            gain = None if score is None or base is None or label == BASELINE else score - base
            cells.append(_mean(score, gain, most) | {"title": ""})
        rows.append({"label": label, "cells": cells})
    return {"benchmark": found.benchmark, "groups": list(found.groups), "rows": rows, "partial": found.partial}


def tests_in_words(tests: Tests) -> list[str]:
    """What the marks mean, and where the better test could not be made."""
    units = {test.unit for test in tests.cells.values()}
    said = []
    if not tests.cells:
        said.append("No difference could be tested.")
    if "examples" in units:
        said.append("Paired bootstrap over test examples, 2,000 resamples, seeds resampled with them.")
    if "languages" in units:
        said.append(
            "Sign-flip permutation test over languages, seeds averaged first (six languages at least). It takes"
            " languages for independent, which translations of one test set are not: it is generous."
        )
    return said


# ---------------------------------------------------------------- per language


def _heatmap(part: Part, target: str) -> dict[str, Any]:
    run, codes = part.run, part.atlas.ordered(part.run.languages(target))
    gains = {label: [run.gain(label, target, x) for x in codes] for label in run.labels if label != BASELINE}
    most = _strongest(gain for row in gains.values() for gain in row)
    rows = []
    for label in run.labels:
        cells = []
        stages = run.stages_of(label, target)
        if not stages:  # a condition that is not asked about this target
            continue
        for i, code in enumerate(codes):
            score, gain = run.score(label, target, code), gains[label][i] if label in gains else None
            shown = gain if label != BASELINE and run.has_baseline else score
            text = "–" if shown is None else signed(shown) if shown is gain else f"{shown:.1f}"
            title = f"{label}, {part.atlas[code].name} ({code}): " + ("–" if score is None else f"{score:.2f}")
            title += f", {signed(gain, 2)} against {BASELINE}" if gain is not None else ""
            cells.append(
                {"text": text, "value": "" if shown is None else f"{shown:.4f}", "title": title} | _shade(gain, most)
            )
        rows.append({"label": label, "cells": cells, "link": stages[0].name if stages else ""})
    languages = [part.atlas[code] for code in codes]
    known = [language for language in languages if language.distance is not None]
    return {
        "target": target,
        "metric": run.results.metrics[target],
        "languages": languages,
        "rows": rows,
        "distances": bool(known),
        "retrieval": analysis.retrieval_settings(run).get(target, []),
    }


# ---------------------------------------------------------------- stages and problems


def problems(run: Run) -> dict[str, list[Any]]:
    """Everything that a reader of the table must know: failures, gaps, collapses, rows not used."""
    lost = [
        (stage.name, stage.state, str(stage.status.get("error", "")) or _behind(run, stage))
        for stage in run.units
        if stage.state != "done"
    ]
    collapsed = [(stage.name, str(stage.result["collapse"])) for stage in run.units if stage.result.get("collapse")]
    collapsed += [
        (s.name, f"{remark(s.result['restarts'])}, trained again lower") for s in run.units if s.result.get("restarts")
    ]
    counted = Counter((*row[:3], str(row[3])) for stage in run.units for row in stage.dropped())
    dropped = [(*row, str(stages)) for row, stages in counted.items()]
    again = [(s.name, str(s.status["attempt"])) for s in run.units if s.status.get("attempt", 1) > 1]
    return {"missing": lost, "collapsed": collapsed, "dropped": dropped, "attempts": again}


def _behind(run: Run, stage: Stage) -> str:
    bad = [p for p in stage.parents if run.stages[p].state != "done"]
    return f"starts from {', '.join(bad)}, which is not done" if bad else ""


def _stage(run: Run, stage: Stage) -> dict[str, Any]:
    origin = run.stages[stage.trained_as]
    alike = (stage.phase, stage.intermediate, stage.tasks, stage.evaluated)
    siblings = [
        other.name
        for other in run.stages.values()
        if other.seed != stage.seed and (other.phase, other.intermediate, other.tasks, other.evaluated) == alike
    ]
    train = origin.config.get("train", {})
    rows: list[tuple[str, str | list[str]]] = [  # a list: names of stages, to be links
        ("state", stage.state),
        ("same as", [origin.name] if origin is not stage else ""),
        ("starts from", list(stage.parents) or stage.start),
        ("seed", str(stage.seed)),
        ("other seeds", siblings),
        ("steps", f"{origin.result['steps']:,}" if origin.result.get("steps") else ""),
        ("learning rate", f"{train['learning_rate']:g}" if stage.tasks and train else ""),
        ("examples", f"{origin.result['examples']:,}" if origin.result.get("examples") else ""),
        ("cost", ", ".join(graph.cost_parts(origin))),
        ("devices", str(origin.status.get("devices") or "")),
        ("revision", str(origin.status.get("revision") or "")[:10]),
        ("checkpoint", _chosen(origin)),
        ("collapsed", str(origin.result.get("collapse") or "")),
        ("error", str(origin.status.get("error") or "")),
        ("fingerprint", stage.fingerprint[:16]),
    ]  # fmt: skip
    return {
        "name": stage.name,
        "state": stage.state,
        "mark": graph.MARKS.get(stage.state, "?"),
        "purpose": stage.purpose,
        "phase": stage.phase,
        "time": duration(origin.seconds) if origin.seconds is not None else "",
        "facts": [(what, value) for what, value in rows if value],
        "evaluations": [_evaluation(stage, task, report) for task, report in stage.evaluations.items()],
        "config": pretty(origin.config) if origin is stage and origin.config else "",
    }


def _chosen(stage: Stage) -> str:
    selection = stage.result.get("selection")
    if not selection:
        return ""
    return f"step {selection['best_step']:,}: dev {selection['metric']} {selection['best_score']:.2f}"


def _evaluation(stage: Stage, task: str, report: Mapping[str, Any]) -> dict[str, Any]:
    metrics = list(dict.fromkeys(key for scores in report["languages"].values() for key in scores))
    metrics.sort(key=lambda key: (key != report["metric"], key == "n"))
    rows = {x: [_number(scores.get(key), key) for key in metrics] for x, scores in report["languages"].items()}
    setting = analysis.setting(stage, task)
    return {"task": task, "split": report["split"], "metrics": metrics, "rows": rows, "setting": setting}


def _number(value: Any, key: str) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) or key == "n" or key.endswith("_n") else f"{value:.2f}"


def pretty(value: Any, indent: int = 0) -> str:
    """JSON with lists of plain values on one line."""
    if isinstance(value, Mapping) and value:
        inner = [f"{' ' * (indent + 2)}{json.dumps(k)}: {pretty(v, indent + 2)}" for k, v in value.items()]
        return "{\n" + ",\n".join(inner) + "\n" + " " * indent + "}"
    return json.dumps(value, ensure_ascii=False)
