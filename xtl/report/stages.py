"""What was run: the facts at the head of the page, the section of each stage, and what is missing or doubtful."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from xtl.config.fingerprint import digest
from xtl.logs import duration
from xtl.report import analysis, graph
from xtl.runs import restarts
from xtl.runs.read import Run, Stage

# ---------------------------------------------------------------- the whole run


def versions(run: Run) -> list[str]:
    """The versions of xtl that trained stages of the run."""
    return sorted({str(stage.status["xtl"]) for stage in run.units if "xtl" in stage.status})


def facts(run: Run) -> list[tuple[str, str]]:
    """(name, value) of what was run; times are those of the run's own files."""
    done = [stage for stage in run.units if stage.state == "done"]
    finished = [stage.status["finished"] for stage in done if "finished" in stage.status]
    revisions = sorted({str(stage.status.get("revision", ""))[:10] for stage in done} - {""})
    devices = sorted({str(stage.status["devices"]) for stage in done if stage.status.get("devices")})
    seconds, tokens, flops = graph.total(done)
    languages = {language for _, _, language in run.scores}
    config = digest([[stage.name, stage.fingerprint] for stage in run.stages.values()])
    encoder = next((stage.config["encoder"] for stage in run.units if stage.config), None)
    data = next((stage.config["data"] for stage in run.units if stage.config), None)
    rows = [
        ("stages", f"{len(done)} of {len(run.units)} done"),
        ("seeds", ", ".join(map(str, sorted({stage.seed for stage in run.stages.values()})))),
        ("scored", f"{len(run.targets)} targets, {len(languages)} languages"),
        ("compute", f"{duration(seconds)}, {graph.short(tokens)} tokens, {graph.short(flops)}FLOP"),
        ("devices", ", ".join(devices)),
        ("encoder", f"{encoder['size']}: {encoder['layers']} layers, {encoder['hidden']} wide" if encoder else ""),
        ("data", str(data["source"]) if data else ""),
        ("results of", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(max(finished))) if finished else ""),
        ("config", config[:12]),
        ("xtl", " ".join([*versions(run), _at(revisions)])),
    ]
    return [(name, value) for name, value in rows if value]


def _at(revisions: Sequence[str]) -> str:
    """The git revision, or how many different ones there are."""
    if len(revisions) > 1:
        return f"at {len(revisions)} revisions (see each stage)"
    return f"at {revisions[0]}" if revisions else ""


def total(run: Run) -> str:
    """Time, tokens and operations of the stages that are done."""
    seconds, tokens, flops = graph.total([stage for stage in run.units if stage.state == "done"])
    return f"{duration(seconds)} of wall time, {graph.short(tokens)} training tokens, {graph.short(flops)}FLOP"


def problems(run: Run) -> dict[str, list[Any]]:
    """What a reader of the table must know: failures, gaps, collapses, rows of data that were not used."""
    missing = [
        (stage.name, stage.state, str(stage.status.get("error", "")) or _unfinished_parents(run, stage))
        for stage in run.units
        if stage.state != "done"
    ]
    collapsed = [(stage.name, str(stage.result["collapse"])) for stage in run.units if stage.result.get("collapse")]
    collapsed += [
        (stage.name, f"{restarts.remark(stage.result['restarts'])}, trained again lower")
        for stage in run.units
        if stage.result.get("restarts")
    ]
    rows = Counter((*row[:3], str(row[3])) for stage in run.units for row in stage.dropped())
    dropped = [(*row, str(stages)) for row, stages in rows.items()]
    attempts = [(s.name, str(s.status["attempt"])) for s in run.units if s.status.get("attempt", 1) > 1]
    return {"missing": missing, "collapsed": collapsed, "dropped": dropped, "attempts": attempts}


def _unfinished_parents(run: Run, stage: Stage) -> str:
    names = [parent for parent in stage.parents if run.stages[parent].state != "done"]
    return f"starts from {', '.join(names)}, which is not done" if names else ""


# ---------------------------------------------------------------- one stage


def section(run: Run, stage: Stage) -> dict[str, Any]:
    """What the page shows of one stage."""
    origin = run.stages[stage.trained_as]
    return {
        "name": stage.name,
        "state": stage.state,
        "mark": graph.MARKS.get(stage.state, "?"),
        "purpose": stage.purpose,
        "phase": stage.phase,
        "time": duration(origin.seconds) if origin.seconds is not None else "",
        "facts": [(name, value) for name, value in _stage_facts(run, stage, origin) if value],
        "evaluations": [_evaluation(stage, task, report) for task, report in stage.evaluations.items()],
        "config": pretty(origin.config) if origin is stage and origin.config else "",
    }


def _stage_facts(run: Run, stage: Stage, origin: Stage) -> list[tuple[str, str | list[str]]]:
    """(name, value); a list holds names of stages, which become links. origin: the stage that was really trained."""
    key = (stage.phase, stage.intermediate, stage.tasks, stage.evaluated)
    siblings = [
        other.name
        for other in run.stages.values()
        if other.seed != stage.seed and (other.phase, other.intermediate, other.tasks, other.evaluated) == key
    ]
    train, result, status = origin.config.get("train", {}), origin.result, origin.status
    return [
        ("state", stage.state),
        ("same as", [origin.name] if origin is not stage else ""),
        ("starts from", list(stage.parents) or stage.start),
        ("seed", str(stage.seed)),
        ("other seeds", siblings),
        ("steps", f"{result['steps']:,}" if result.get("steps") else ""),
        ("learning rate", f"{train['learning_rate']:g}" if stage.tasks and train else ""),
        ("examples", f"{result['examples']:,}" if result.get("examples") else ""),
        ("cost", ", ".join(graph.cost_parts(origin))),
        ("devices", str(status.get("devices") or "")),
        ("revision", str(status.get("revision") or "")[:10]),
        ("checkpoint", _selected(origin)),
        ("collapsed", str(result.get("collapse") or "")),
        ("error", str(status.get("error") or "")),
        ("fingerprint", stage.fingerprint[:16]),
    ]


def _selected(stage: Stage) -> str:
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
