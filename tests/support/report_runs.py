"""Run folders with made-up results, of any size, for the tests of the report: nothing is trained."""

import hashlib
import json
import math

from xtl import files
from xtl.benchmark.aggregate import MAIN_METRIC, XTREME
from xtl.runs.workdir import Workdir

CONDITIONS = ("anli_plus", "mnli", "qqp", "squad_v2", "squad_v1", "hellaswag", "ccg", "cosmosqa", "commonsenseqa")
RETRIEVAL = ("tatoeba", "bucc2018")
ENCODER = {"size": "base", "layers": 12, "hidden": 768, "mlp": 3072, "heads": 12, "vocab_size": 250002}


def noise(*address) -> float:
    """-1 to 1, from the address alone."""
    return int(hashlib.sha256(repr(address).encode()).hexdigest()[:8], 16) / 2**31 - 1


def make_run(
    path,
    *,
    conditions=CONDITIONS,
    targets=tuple(XTREME.languages),
    languages=None,
    seeds=(0,),
    states=None,
    select=True,
    sweep=False,
    collapsed=(),
    restarted=(),
    dropped=None,
    name="paper",
):
    """A WORKDIR as `xtl run` leaves it. states: {stage: state} of those not done; languages: of every target."""
    states, entries = states or {}, []

    def add(stage, *, phase, intermediate, seed, parent, tasks, evaluate, trained_as=""):
        print_ = hashlib.sha256((trained_as or stage).encode()).hexdigest()
        state, folder = states.get(stage, "done"), path / "stages" / f"{trained_as or stage}-{print_[:8]}"
        entries.append({
            "pipeline": name, "name": stage, "phase": phase, "intermediate": intermediate, "seed": seed,
            "start": f"stage:{parent}" if parent else "scratch", "parents": [parent] if parent else [], "tasks": tasks,
            "evaluate": evaluate, "fingerprint": print_, "trained_as": trained_as or stage,
        })  # fmt: skip
        if trained_as or state == "pending":
            return
        result = {"steps": 1000 if tasks else 0, "collapse": "the loss is flat" if stage in collapsed else ""}
        if stage in restarted:
            result["restarts"] = [{"learning_rate": 1e-5, "reason": "the loss is flat"}]
        if tasks:
            result |= {"tokens": 10**6, "examples": 20_000}
            if select:
                score = 70 + 5 * noise(stage, "dev")
                result["selection"] = {"metric": "accuracy", "best_step": 800, "best_score": score}
        status = {"state": state, "fingerprint": print_, "xtl": "0.1.0", "revision": "ab" * 20, "attempt": 1,
                  "started": 1.8e9, "finished": 1.8e9 + 600, "seconds": 600.0, "devices": "16 x TPU v5e"}  # fmt: skip
        status |= {"error": "XtlError: out of luck"} if state == "failed" else {"result": result}
        files.write_json(folder / "status.json", status)
        data = {"source": "files", "root": "nowhere", "options": {}, "world": {}}
        entry = {x: {"split": "test", "limit": 0, "options": {}, "languages": list(spoken(x))} for x in evaluate}
        files.write_json(
            folder / "config.json",
            {"name": stage, "phase": phase, "encoder": ENCODER, "data": data, "evaluate": entry,
             "tasks": {task: {"batch_size": 32} for task in tasks}, "train": {"learning_rate": 1e-5}},
        )  # fmt: skip
        if tasks:
            lines = []
            for step in range(100, 1001, 100):
                record = {"step": step, "loss": 3 * math.exp(-step / 400) + 0.1 * noise(stage, step), "tokens": 1000}
                if select and step % 200 == 0:
                    score = 70 - 40 * math.exp(-step / 300) + noise(stage, step, "dev")
                    record["dev"] = {"score": score, "best": True, "scores": {"en": score}}
                lines.append(json.dumps(record) + "\n")
            files.atomic_write(folder / "metrics.jsonl", "".join(lines))
        if state == "done":
            for task in evaluate:
                files.write_json(folder / "eval" / f"{task}.json", report(task, intermediate, seed))

    def spoken(task):
        return languages or XTREME.languages[task]

    def report(task, intermediate, seed):
        metric = MAIN_METRIC[task]
        level = 60 + 15 * noise(task) + (0 if intermediate == "none" else 3 * noise(task, intermediate))
        scores = {
            x: {metric: round(level + 12 * noise(x) + noise(task, intermediate, x, seed), 4), "n": 1000}
            for x in spoken(task)
        }
        found = {"task": task, "split": "test", "metric": metric, "languages": scores, "average": level}
        if sweep and task in RETRIEVAL:
            found["sweep"] = {
                x: {"mean": [10.0 + layer for layer in range(13)], "cls": [5.0] * 13} for x in spoken(task)
            }
        if dropped and task in dropped:
            found["dropped"] = dropped[task]
        return found

    for seed in seeds:
        tail = f"-s{seed}" if seed else ""
        for condition in ("none", *conditions):
            parent = "" if condition == "none" else f"{condition}{tail}"
            if parent:
                add(parent, phase="intermediate", intermediate=condition, seed=seed, parent="", tasks=[condition],
                    evaluate=[])  # fmt: skip
            for target in targets:
                tasks = [] if target in RETRIEVAL else [target]
                shared = f"none-{target}" if condition == "none" and not tasks and seed else ""
                add(f"{condition}-{target}{tail}", phase="target" if tasks else "eval", intermediate=condition,
                    seed=seed, parent=parent, tasks=tasks, evaluate=[target], trained_as=shared)  # fmt: skip
    Workdir(path).write_plan(name, [{k: v for k, v in entry.items() if k != "pipeline"} for entry in entries])
    return Workdir(path)
