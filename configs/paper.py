"""The paper's matrix (Phang et al. 2020): intermediate task x target, with and without MLM, English and translated.

    xtl plan --config=configs/paper.py --topology=v5e:4x4 --price=1.20
    xtl run  --config=configs/paper.py:source=files --config.data.root=DATA
    xtl run  --config=configs/paper.py:source=world,encoder=tiny     (all of it on synthetic languages, on two cores)
    xtl plan --config=configs/paper.py:benchmark=xtreme-r,seeds=0+1+2,text=english,mlm=no

Rows: none, nine intermediate tasks, all nine together; +mlm mixes multilingual MLM in, +translated trains on machine
translations (German, Russian, Swahili) of the tasks that have some. Columns: the benchmark's targets.
In the world: 243 stages in 35 minutes on one CPU core; docs/results.md says what came out.
Hyper-parameters: intermediate tasks as remembered from the paper, unverified; targets as in the authors' jiant (those
of XTREME-R alone: XTREME's scripts).
"""

from typing import Any

from ml_collections import ConfigDict

from xtl import config
from xtl.benchmark.aggregate import BENCHMARKS, get_benchmark
from xtl.config.recipes import PAPER, small_head
from xtl.errors import XtlError, nearest
from xtl.tasks import get_task

ONLY_R = ("xcopa", "mewslix", "lareqa")  # jiant has no recipes for them
HUB = {"xl": "facebook/xlm-roberta-xl", "xxl": "facebook/xlm-roberta-xxl"}


def get_config(arg: str = "") -> ConfigDict:
    a = config.arguments(
        arg,
        source="hub",
        encoder="large",
        start="",  # a model folder; "" = the published encoder of that size (world: one trained here)
        benchmark="xtreme",
        intermediate=tuple(PAPER),
        mlm=("no", "yes"),
        text=("english", "translated"),
        seeds=(0,),
        effort=1.0,  # in the world: a share of the steps, for a quick look
    )
    for name, allowed in (("benchmark", BENCHMARKS), ("mlm", ("no", "yes")), ("text", ("english", "translated"))):
        given = getattr(a, name)
        for value in (given,) if isinstance(given, str) else given:
            if value not in allowed:
                raise XtlError(f"config argument {name}={value}.{nearest(value, allowed)}")
    conditions: dict[str, Any] = {"none": None}
    for text in a.text:
        for mlm in a.mlm:
            tail = ("+translated" if text == "translated" else "") + ("+mlm" if mlm == "yes" else "")
            sets = {task: languages(task, text, a.source) for task in a.intermediate}
            for task in filter(sets.get, sets):
                conditions[task + tail] = config.intermediate([task], languages=sets, mlm=mlm == "yes")
            if text == "english" and len(sets) > 1:
                conditions["multi" + tail] = config.intermediate(sets, mlm=mlm == "yes")
    columns = get_benchmark(a.benchmark).languages
    benchmark = "" if a.source == "world" else a.benchmark  # the world speaks other languages
    targets = config.targets([task for task in columns if task not in ONLY_R], benchmark=benchmark)
    if a.benchmark == "xtreme-r":
        targets |= config.targets(ONLY_R, source="xtreme", benchmark=benchmark)
    stages: list[ConfigDict] = []
    start = a.start or HUB.get(a.encoder, f"FacebookAI/xlm-roberta-{a.encoder}")
    if a.source == "world":
        conditions, targets, stages, start = in_the_world(conditions, targets, effort=a.effort)
    return config.pipeline(
        "paper" if a.benchmark == "xtreme" else "paper_r",
        encoder=config.encoder(a.encoder, **(WORLD_ENCODER if a.source == "world" else {})),
        data={
            "source": a.source,
            "world": {"dev": 200, "test": 200} if a.source == "world" else {},  # for each of ten languages
            "sources": dict.fromkeys(lacking(a.source, a.benchmark), "files"),
            # The copies on the hub and in TFDS split contracted words, unlike XTREME's own files.
            "options": {"udpos": {"fusion": False}} if a.source in ("hub", "tfds") else {},
        },
        system={"log_every": 25, "checkpoint_every": 1000} if a.source == "world" else {},
        stages=[*stages, *config.grid(start=start, conditions=conditions, targets=targets, seeds=a.seeds)],
    )


def languages(task: str, text: str, source: str) -> tuple[str, ...]:
    """The languages an intermediate task is trained in; () where there is no such data."""
    if text == "english":
        return ("en",)
    if source == "world":
        return ("qna", "qma", "qfa") if task in ("mnli", "qqp", "hellaswag") else ()  # the paper's three tasks
    there: Any = get_task(task).options.get("translated", ())
    return tuple(x for x in ("de", "ru", "sw") if x in there)


def lacking(source: str, benchmark: str) -> list[str]:
    """The tasks that a source does not hold, such as CCG, which is licensed: they are read from data.root."""
    names = (*PAPER, *get_benchmark(benchmark).languages)
    return [task for task in names if source in ("hub", "tfds") and getattr(get_task(task), source) is None]


# ---------------------------------------------------------------- the same matrix, small

WORLD_ENCODER = {"hidden": 96, "layers": 3, "heads": 4, "mlp": 384, "max_positions": 130}
SPEED = {"learning_rate": 1e-3, "warmup": 0.1, "sampling": {"language_exponent": 0.7}}
STEPS = {"mlm": 1500, "intermediate": 300, "multi": 600, "target": 200}


def in_the_world(
    conditions: dict[str, Any], targets: dict[str, Any], *, effort: float
) -> tuple[Any, Any, list[ConfigDict], str]:
    """(conditions, targets, stages before them, their start): an encoder trained from scratch, steps for epochs."""
    steps = {kind: max(1, round(effort * full)) for kind, full in STEPS.items()}

    def small(fields: Any, kind: str) -> Any:
        if not (fields or {}).get("tasks"):
            return fields
        if "first" in fields:
            fields = {**fields, "first": small(fields["first"], kind)}
        entry = {"batch_size": 16, "max_length": 64}
        tasks = {name: {**entry, "options": small_head(name)} for name in fields["tasks"]}
        # Restarts are for large encoders at too high a rate; a loss that stays flat here would stay so at half of it.
        train = {**SPEED, "steps": steps[kind], "restarts": 0}
        return config.merged(fields, {"tasks": tasks, "train": train, "select": {"every": 0}})

    pretraining = config.stage(
        "mlm",
        phase="mlm",
        tasks={"mlm": {"batch_size": 64, "max_length": 64, "languages": ()}},
        train={**SPEED, "learning_rate": 2e-3, "steps": steps["mlm"]},
    )
    rows = {
        name: small(fields, "multi" if name.startswith("multi") else "intermediate")
        for name, fields in conditions.items()
    }
    for fields in targets.values():
        if "mlqa" in fields["evaluate"]:  # MLQA's own rules know seven languages
            fields["evaluate"]["mlqa"] = {"options": {"normalise": "squad"}}
    return rows, {name: small(fields, "target") for name, fields in targets.items()}, [pretraining], "stage:mlm"
