"""Study: is multilingual intermediate QA training better than English for low-resource languages, at equal size?

    xtl plan --config=configs/studies/multilingual.py --topology=v5e:4x4
    xtl run  --config=configs/studies/multilingual.py --workdir=runs/multilingual
    xtl run  --config=configs/studies/multilingual.py:source=files,encoder=base --config.data.root=DATA
    xtl run  --config=configs/studies/multilingual.py:source=world --workdir=runs/multilingual_world

Conditions: none; all of SQuAD; SQuAD cut to N questions; the machine translations of SQuAD in six languages, N in all;
SQuAD cut to the N/6 different questions that the translations hold, for as many steps; TyDiQA's English training set;
as many TyDiQA questions of all nine languages. Ends in report/multilingual.html: the advantage over English of equal
size on languages that are absent from or small in CC-100 and in neither training set.

Overlaps are excluded by construction: XQuAD and LAReQA are made of SQuAD's development set, which selects checkpoints
here, and every language of TyDiQA is trained on, so none of the three is a target, and asking for one is an error.

Cost: 18 intermediate and 126 target trainings (three seeds), retrieval besides: 36 chip-hours of a v5e at 40 %
utilisation for the large encoder by `xtl plan` (sizes of the catalog, lengths assumed; not measured).
Expect: nothing certain. None of the training languages is low-resource but Swahili and Telugu in TyDiQA, which are left
out of the means, so all of it is transfer to unseen languages; four of the evaluated ones are absent from CC-100.
"""

from typing import Any

from ml_collections import ConfigDict

from xtl import config
from xtl.studies import designs
from xtl.tasks import get_task
from xtl.world import languages as languages_of_the_world

TRANSLATED = ("ar", "de", "es", "hi", "vi", "zh")  # MLQA's translations of SQuAD, the ones on the hub
TARGETS = ("xnli", "udpos", "panx", "mlqa", "xcopa", "tatoeba")
WORLD = ("qna", "qnb", "qmb", "qfa")  # the training languages of the world
SIZE, ALL = 4000, 8000  # questions of the world's size-matched conditions, and of its SQuAD
SHARES = {"qnc": 0.1, "qmc": 0.1, "qfc": 0.1, "qma": 0.0, "qfb": 0.0}  # of the MLM text, in the world; the rest 1
MORE = 0.1, 0.0, 1.0  # the same of the languages drawn in addition, eight by eight: each eight are of all distances


def get_config(arg: str = "") -> ConfigDict:
    a = config.arguments(
        arg,
        source="hub",
        encoder="large",
        start="",
        size=13_104,  # questions of the size-matched conditions
        targets=(),
        seeds=(0, 1, 2),
        more_languages=30,  # in the world, besides its ten
        mlm_steps=designs.MLM_STEPS,
        steps=150,
    )
    world = a.source == "world"
    languages = WORLD if world else TRANSLATED
    typed = () if world else get_task("tydiqa").languages
    targets = a.targets or (("udpos", "panx", "tydiqa") if world else TARGETS)
    each = (SIZE if world else a.size) // len(languages)
    small = each * len(languages)
    conditions: dict[str, Any] = {
        "none": None,
        "squad": trained("squad_v1", ("en",), limit=0),
        "squad_matched": trained("squad_v1", ("en",), limit=small),
        "squad_translated": trained("squad_v1", languages, limit=each),
        "squad_distinct": trained("squad_v1", ("en",), limit=each, times=len(languages)),
    }
    pairs = {"squad_translated": "squad_matched"}
    trained_on: dict[str, tuple[str, ...]] = {"squad_translated": languages}
    if typed:
        share = get_task("tydiqa").sizes["train"]["en"] // len(typed)  # type: ignore[index]
        conditions["tydiqa_english"] = trained("tydiqa", ("en",), limit=share * len(typed))
        conditions["tydiqa_all"] = trained("tydiqa", typed, limit=share)
        pairs["tydiqa_all"] = "tydiqa_english"
        trained_on["tydiqa_all"] = tuple(x for x in typed if x != "en")
    for fields in filter(None, conditions.values()):
        for task in fields["tasks"]:
            designs.refuse_overlap(task, targets, split="train")
            designs.refuse_overlap(task, targets, split="dev")  # it selects the checkpoint
    if not world:
        spoken = {target: get_task(target).languages for target in targets}
        designs.refuse_spoken(spoken, trained_on=trained_on["tydiqa_all"])
    stages, start, options = [], a.start or f"FacebookAI/xlm-roberta-{a.encoder}", {}
    if world:
        options = {"more_languages": a.more_languages}
        every = languages_of_the_world(options=options)
        shares = SHARES | {x: MORE[i // 8 % 3] for i, x in enumerate(every[len(every) - a.more_languages :])}
        options["languages"] = {x: {"data_share": share} for x, share in shares.items()}
        options["sizes"] = {"squad_v1": ALL}
        heard = tuple(x for x in every if shares.get(x, 1.0))
        stages, start = [designs.pretraining(a.mlm_steps, languages=heard)], "stage:mlm"
        for name, fields in conditions.items():
            if fields:
                entry, steps = fields["tasks"]["squad_v1"], (ALL if name == "squad" else small) // designs.BATCH
                conditions[name] = designs.training(
                    "squad_v1", steps=steps, languages=entry["languages"], limit=entry["limit"]
                )
        rows = designs.targets(targets, steps=a.steps)
    else:
        rows = config.targets([t for t in targets if t != "xcopa"], benchmark="xtreme-r")
        if "xcopa" in targets:
            rows |= config.targets(["xcopa"], source="xtreme", benchmark="xtreme-r")
    grid = config.grid(start=start, conditions=conditions, targets=rows, seeds=a.seeds)
    return config.pipeline(
        "multilingual",
        encoder=designs.encoder() if world else config.encoder(a.encoder),
        data=designs.data(a.source, world=options),
        system=designs.SYSTEM if world else {},
        study={
            "name": "multilingual",
            "pairs": pairs,
            "also": {"squad_translated": "squad_distinct"},
            "trained_on": trained_on,
        },
        stages=[*stages, *grid],
    )


def trained(task: str, languages: tuple[str, ...], *, limit: int, times: int = 1) -> dict[str, Any]:
    """The paper's recipe for SQuAD with so many examples a language; `times` as many epochs, for equal steps."""
    fields = config.recipe("squad_v1", source="paper")
    entry = {**fields["tasks"].pop("squad_v1"), "languages": languages, "limit": limit}
    return {**fields, "tasks": {task: entry}, "train": {**fields["train"], "epochs": fields["train"]["epochs"] * times}}
