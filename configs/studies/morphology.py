"""Study: does intermediate training on a morphologically rich language help sentence retrieval more than on a poor one?

    xtl plan --config=configs/studies/morphology.py --topology=v5e:4x4
    xtl run  --config=configs/studies/morphology.py --workdir=runs/morphology
    xtl run  --config=configs/studies/morphology.py:source=files,encoder=base --config.data.root=DATA
    xtl run  --config=configs/studies/morphology.py:source=world --workdir=runs/morphology_world

Conditions: none, and MNLI as translated for XNLI (50,000 of the same pairs) in one of fifteen languages at a time.
Targets: Tatoeba and BUCC, by one layer and pooling that stand in this file: the layer that is best for a condition
would compare layers, and is refused. Ends in report/morphology.html: the effect of a training language on the
retrieval of all others, on its richness (moving-average type-token ratio of the parallel XNLI texts; word length and
pieces a word besides).

Cost: 45 intermediate trainings of 50,000 pairs (three seeds), the rest is retrieval: 7 chip-hours of a v5e at 40 %
utilisation for the large encoder by `xtl plan` (sizes of the catalog, lengths assumed; not measured).
Expect: no clear answer from thirteen languages written with spaces: |rho| from about .71 on is detected. Richness goes
with family and script; the table shows the effects without relatives of the training language, too.
"""

from ml_collections import ConfigDict

from xtl import config
from xtl.studies import designs
from xtl.tasks import get_task
from xtl.world import languages as languages_of_the_world

LAYERS = {"large": 14, "base": 8}  # XTREME's choice, also jiant's


def get_config(arg: str = "") -> ConfigDict:
    a = config.arguments(
        arg,
        source="hub",
        encoder="large",
        start="",
        languages=(),  # () = all with translated training data
        size=50_000,  # pairs
        targets=("tatoeba", "bucc2018"),
        seeds=(0, 1, 2),
        more_languages=24,  # in the world, besides its ten
        mlm_steps=designs.MLM_STEPS,
        steps=250,
    )
    stages, start = [], a.start or f"FacebookAI/xlm-roberta-{a.encoder}"
    metrics, world = {}, {}
    if a.source == "world":
        world = {"more_languages": a.more_languages}
        languages = a.languages or languages_of_the_world(options=world)
        stages, start = [designs.pretraining(a.mlm_steps)], "stage:mlm"
        conditions = {x: designs.training("mnli", steps=a.steps, languages=(x,)) for x in languages}
        options = designs.LAYER
        targets = ("tatoeba",)
        metrics = {"tatoeba": "anchor_free_accuracy"}  # shared words give retrieval for nothing
    else:
        languages = a.languages or ("en", *get_task("mnli").options["translated"])
        conditions = {}
        for x in languages:
            fields = config.intermediate(["mnli"], languages={"mnli": (x,)})
            conditions[x] = config.merged(fields, {"tasks": {"mnli": {"limit": a.size}}})
        options = {"layer": LAYERS[a.encoder], "pooling": "mean"}
        targets = a.targets
    retrieval = {"evaluate": {target: {"options": options} for target in targets}}
    grid = config.grid(
        start=start, conditions={"none": None, **conditions}, targets={"retrieval": retrieval}, seeds=a.seeds
    )
    return config.pipeline(
        "morphology",
        encoder=designs.encoder() if a.source == "world" else config.encoder(a.encoder),
        data={"source": a.source, "world": world},
        system=designs.SYSTEM if a.source == "world" else {},
        study={"name": "morphology", "parallel": {"task": "xnli", "split": "test"}, "metrics": metrics},
        stages=[*stages, *grid],
    )
