"""The whole method in minutes, offline: MLM -> {none, MNLI, SQuAD} in English -> five targets in ten languages.

    xtl run --config=configs/demo.py --workdir=runs/demo
    xtl run --config=configs/demo.py:seeds=0+1+2            (three seeds, with spread)
    xtl run --config=configs/demo.py:mlm_steps=200,steps=100  (a look, in a minute)

The languages are those of the embedded world (English and nine more, near, middle and far from it), the encoder is a
tiny XLM-R trained from scratch, and every target is trained in English only.

Cost: 18 stages, a few minutes on two CPU cores. Expect 100 F1 on English tags and about 60 (parts of speech) and 72
(names) on the other nine languages, more on the near ones; retrieval of 24 % without an intermediate task; NLI near
chance outside English. README.md has the table with its spread over three seeds.
"""

from typing import Any

from ml_collections import ConfigDict

from xtl import config

CONDITIONS = ("mnli", "squad_v1")
TARGETS = {"xnli": "mnli", "xquad": "squad_v1", "udpos": "udpos", "panx": "panx"}  # target: the task it trains on
HEAD = {"mnli": {"head": "hf"}}  # one dense layer: two do not train in a few hundred steps on so small an encoder


def get_config(arg: str = "") -> ConfigDict:
    a = config.arguments(arg, seeds=(0,), mlm_steps=1600, steps=300, world=0)
    speed = {"learning_rate": 1e-3, "warmup": 0.1, "weight_decay": 0.01}

    def trained_on(task: str) -> dict[str, Any]:
        entry = {"batch_size": 32, "max_length": 64, "options": HEAD.get(task, {})}
        return {"tasks": {task: entry}, "train": {**speed, "steps": a.steps}}

    pretraining = config.stage(
        "mlm",
        phase="mlm",
        tasks={"mlm": {"batch_size": 64, "max_length": 64, "languages": ()}},
        train={**speed, "steps": a.mlm_steps, "learning_rate": 2e-3, "sampling": {"language_exponent": 0.7}},
    )
    targets = {target: {**trained_on(task), "evaluate": {target: {}}} for target, task in TARGETS.items()}
    targets["tatoeba"] = {"evaluate": {"tatoeba": {"options": {"centre": True}}}}  # on the encoder as it is handed on
    grid = config.grid(
        start="stage:mlm",
        conditions={"none": None, **{task: trained_on(task) for task in CONDITIONS}},
        targets=targets,
        seeds=a.seeds,
    )
    return config.pipeline(
        "demo",
        encoder=config.encoder("tiny", hidden=96, layers=3, heads=4, mlp=384, max_positions=130),
        data={"source": "world", "world": {"seed": a.world}},
        system={"log_every": 25, "checkpoint_every": 250},
        stages=[pretraining, *grid],
    )
