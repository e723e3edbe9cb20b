"""Real languages, small: an XLM-R-shaped encoder trained by MLM on real text, then the paper's graph on it.

    python scripts/small_vocabulary.py --root=DATA --out=runs/vocabulary --size=16000
    xtl run  --config=configs/real_mini.py:vocabulary=runs/vocabulary,pieces=16002 --config.data.root=DATA
    xtl plan --config=configs/real_mini.py --config.data.root=DATA          (the published vocabulary of 250,002 pieces)

DATA is a folder of the original distribution files, as for configs/real_small.py. MLM text is what lies in DATA/mlm, or
the Bible and XNLI's development sentences. Rows: none, SQuAD, MNLI, five tasks at once. Columns: tatoeba (one fixed
layer), xnli, udpos, panx, tydiqa, and mlqa, because XTREME's copy of TyDiQA has no answers. The run ends with the page
of the typology study, too (report/real_mini.html): these are its conditions and targets, on real languages.

Cost: with the defaults 1 + 9 + 60 trainings (three seeds); the MLM stage is most of it. A small own vocabulary makes
that stage several times cheaper on a CPU, since the output layer is as wide as the vocabulary.
Expect: an honest test of one claim only, that retrieval rises after intermediate training. In the small run that
docs/results.md reports (four layers of 128, two hours of one core) it did not; tags do cross languages there.
"""

from typing import Any

from ml_collections import ConfigDict

from xtl import config
from xtl.config.recipes import small_head
from xtl.errors import XtlError, nearest

MULTI = ("mnli", "squad_v1", "qqp", "hellaswag", "commonsenseqa")
LENGTHS = {"squad_v1": 256, "tydiqa": 256}  # pieces; 128 for the others
TARGETS = {
    "xnli": ("mnli", "test"),
    "udpos": ("udpos", "test"),
    "panx": ("panx", "dev"),  # XTREME's copies of its test sets have no labels
    "tydiqa": ("tydiqa", "test"),
    "mlqa": ("squad_v1", "dev"),
}


def get_config(arg: str = "") -> ConfigDict:
    a = config.arguments(
        arg,
        vocabulary="{root}/tokenizer/xlm-roberta",
        pieces=0,  # of the vocabulary with the special ones; 0 = 250,002
        hidden=256,
        layers=6,
        mlm_steps=20_000,
        steps=1_000,  # of every intermediate and target training
        batch=32,
        limit=0,  # test examples a language; 0 = all
        targets=(),  # () = tatoeba and TARGETS
        seeds=(0, 1, 2),
    )
    speed = {"learning_rate": 3e-4, "warmup": 0.1, "weight_decay": 0.01}

    def trained_on(*tasks: str) -> dict[str, Any]:
        entries = {
            task: {"batch_size": a.batch, "max_length": LENGTHS.get(task, 128), "options": small_head(task)}
            for task in tasks
        }
        steps = a.steps if len(tasks) == 1 else 2 * a.steps
        return {"tasks": entries, "train": {**speed, "steps": steps}}

    pretraining = config.stage(
        "mlm",
        phase="mlm",
        tasks={"mlm": {"batch_size": 2 * a.batch, "max_length": 128, "languages": ()}},
        train={**speed, "learning_rate": 1e-3, "steps": a.mlm_steps, "sampling": {"language_exponent": 0.3}},
    )
    targets: dict[str, Any] = {
        target: {**trained_on(task), "evaluate": {target: {"split": split, "limit": a.limit}}}
        for target, (task, split) in TARGETS.items()
    }
    fixed = {"layer": round(0.6 * a.layers), "pooling": "mean", "centre": True}
    targets["tatoeba"] = {"evaluate": {"tatoeba": {"options": fixed}}}
    for name in a.targets:
        if name not in targets:
            raise XtlError(f"targets: unknown {name!r}.{nearest(name, targets)}")
    targets = {name: targets[name] for name in a.targets or targets}
    conditions = {
        "none": None,
        "squad_v1": trained_on("squad_v1"),
        "mnli": trained_on("mnli"),
        "multi": trained_on(*MULTI),
    }
    return config.pipeline(
        "real_mini",
        encoder=config.encoder(
            "tiny",
            vocab_size=a.pieces or 250_002,
            hidden=a.hidden,
            layers=a.layers,
            heads=max(1, a.hidden // 64),
            mlp=4 * a.hidden,
            max_positions=514,
        ),
        data={"source": "files", "tokenizer": a.vocabulary},
        system={"log_every": 100, "checkpoint_every": 1000},
        study={"name": "typology"},
        stages=[pretraining, *config.grid(start="stage:mlm", conditions=conditions, targets=targets, seeds=a.seeds)],
    )
