"""Real text, real tokenizer, real file formats, small encoder: MLM -> {none, SQuAD, MNLI} -> six targets.

    xtl run --config=configs/real_small.py --config.data.root=DATA --workdir=runs/real_small

DATA is a folder of the original distribution files (one folder a task; `xtl data` says what is there and what is
missing) with the XLM-R SentencePiece model in DATA/tokenizer/xlm-roberta. The encoder is randomly initialised and far
too small to learn these tasks well in a few minutes: the run shows that everything works on real input, not that the
method does.

Cost: 21 stages; 12 min 35 s on two CPU cores that were shared with other work, 630 CPU seconds, peak memory 2.8 GiB.
Expect: chance on XNLI (reported as collapsed, which it is) and on spans, 50 F1 on English tags and about 20 on those of
17 other languages; docs/results.md has the table. XTREME's copy of TyDiQA has no answers: it is predicted, not scored.
"""

from typing import Any

from ml_collections import ConfigDict

from xtl import config

# target: (the task it trains on, split, languages; () = all that are there)
TARGETS = {
    "xnli": ("mnli", "test", ()),
    "mlqa": ("squad_v1", "dev", ()),
    "tydiqa": ("tydiqa", "test", ()),  # XTREME's copy has no answers: predictions without scores
    "udpos": ("udpos", "test", ()),
    "panx": ("panx", "dev", ()),
}
LENGTHS = {"mnli": 128, "squad_v1": 256, "tydiqa": 256, "udpos": 128, "panx": 64}


def get_config(arg: str = "") -> ConfigDict:
    a = config.arguments(arg, seeds=(0,), mlm_steps=250, steps=80, limit=200)
    speed = {"learning_rate": 1e-3, "warmup": 0.1, "weight_decay": 0.01}

    def trained_on(task: str) -> dict[str, Any]:
        entry = {"batch_size": 16, "max_length": LENGTHS[task], "limit": 4000}
        return {"tasks": {task: entry}, "train": {**speed, "steps": a.steps}}

    pretraining = config.stage(
        "mlm",
        phase="mlm",
        tasks={"mlm": {"batch_size": 32, "max_length": 64, "languages": ()}},
        train={**speed, "steps": a.mlm_steps, "sampling": {"language_exponent": 0.3}},
    )
    targets = {
        target: {
            **trained_on(task),
            "evaluate": {target: {"split": split, "languages": languages, "limit": a.limit}},
        }
        for target, (task, split, languages) in TARGETS.items()
    }
    targets["tatoeba"] = {"evaluate": {"tatoeba": {}}}
    grid = config.grid(
        start="stage:mlm",
        conditions={"none": None, "squad_v1": trained_on("squad_v1"), "mnli": trained_on("mnli")},
        targets=targets,
        seeds=a.seeds,
    )
    # "root" is given on the command line; the tokenizer lies below it
    return config.pipeline(
        "real_small",
        encoder=config.encoder("tiny", hidden=64, layers=2, heads=4, mlp=256),
        data={"source": "files", "tokenizer": "{root}/tokenizer/xlm-roberta"},
        system={"log_every": 20, "checkpoint_every": 100},
        stages=[pretraining, *grid],
    )
