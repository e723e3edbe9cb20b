"""Study: does the divergence between intermediate and target data predict the gain, and how robust it is?

    xtl plan --config=configs/studies/divergence.py --topology=v5e:4x4
    xtl run  --config=configs/studies/divergence.py --workdir=runs/typology     (shares every stage with typology there)
    xtl run  --config=configs/studies/divergence.py:source=world --workdir=runs/typology_world

The stages are those of configs/studies/typology.py with all nine intermediate tasks, so under one WORKDIR only the new
ones are trained. When they are done, texts of every task are embedded by the pretrained encoder at one layer, and
report/divergence.html holds: gain on divergence (primary measure, fixed beforehand: MMD over the target's languages),
six further measures with corrected p values, worst languages, negative transfer, consistency over languages.

Cost: the trainings of typology and five more conditions, 71 chip-hours of a v5e at 40 % utilisation for the large
encoder by `xtl plan` (sizes of the catalog, lengths assumed; not measured); the distances are forward passes.
Expect: little power between nine intermediate tasks; Kashyap et al. 2021 found no measure that wins everywhere.
"""

from pathlib import Path

from ml_collections import ConfigDict

from xtl import config
from xtl.config.recipes import PAPER

WORLD = ("mnli", "squad_v2", "hellaswag", "qqp", "cosmosqa", "commonsenseqa")


def get_config(arg: str = "") -> ConfigDict:
    given = [part for part in (arg or "").split(",") if part]
    names = {part.partition("=")[0]: part.partition("=")[2] for part in given}
    world = names.get("source") == "world"
    if "intermediate" not in names:
        given.append(f"intermediate={'+'.join(WORLD if world else PAPER)}")
    typology = config.load_config(f"{Path(__file__).with_name('typology.py')}:{','.join(given)}")
    conditions = {x.intermediate: next(iter(x.tasks)) for x in typology.stages.values() if x.phase == "intermediate"}
    data = typology.data.to_dict()
    if not world and "ccg" in conditions:
        data["sources"]["ccg"] = "files"  # licensed: no public copy
    return config.pipeline(
        "divergence",
        encoder=typology.encoder,
        data=data,
        system=typology.system,
        study={
            "name": "divergence",
            "tasks": conditions,
            "primary": "mmd",
            "texts": 200 if world else 1000,  # a side
            "layer": 1 if world else -1,  # -1: the layer that retrieval uses (8 of 12, 14 of 24)
        },
        stages=typology.stages.values(),
    )
