"""Study: does it help when the intermediate data is from the target's domain, and does size change that?

    xtl plan --config=configs/studies/domain.py --topology=v5e:4x4
    xtl run  --config=configs/studies/domain.py --workdir=runs/domain
    xtl run  --config=configs/studies/domain.py:source=files,encoder=base --config.data.root=DATA
    xtl run  --config=configs/studies/domain.py:source=world --workdir=runs/domain_world

Conditions: none, and MNLI cut to one genre (general: slate; special: telephone) and to 0.5, 1, 2, 5 or 10 thousand
pairs. In the world two formats (pairs and spans) with a special domain of its own nouns and verbs, three sizes, and
targets of the special domain. Ends in report/domain.html: gain over none by domain and size, and the interaction of
log2 size with the similarity of domains (1 - Jensen-Shannon divergence of unigrams, measured on the texts used).

Cost: 50 intermediate trainings of at most 10,000 pairs and 220 target trainings (five seeds): 37 chip-hours of a v5e at
40 % utilisation for the large encoder by `xtl plan` (sizes of the catalog, lengths assumed; not measured).
Expect: the interaction is estimated once a seed, so five seeds find only large ones. Biomedical question answering
is not among the shipped tasks: add it as tasks of its own and give them as further cells.
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from xtl import config
from xtl.studies import designs

TARGETS = ("pawsx", "udpos", "panx", "tydiqa")
SIZES, WORLD_SIZES = (500, 1000, 2000, 5000, 10_000), (250, 1000, 4000)
FORMATS = {"pair": "mnli", "span": "squad_v1"}  # in the world; the real genres are MNLI's


def get_config(arg: str = "") -> ConfigDict:
    a = config.arguments(
        arg,
        source="hub",
        encoder="large",
        start="",
        general="slate",
        special="telephone",  # genres of MNLI
        targets=(),
        seeds=(0, 1, 2) if "source=world" in (arg or "").split(",") else (0, 1, 2, 3, 4),
        mlm_steps=1500,
        steps=100,  # of a target in the world
    )
    conditions: dict[str, Any] = {"none": None}
    cells: dict[str, dict[str, Any]] = {}
    stages, start, world = [], a.start or f"FacebookAI/xlm-roberta-{a.encoder}", a.source == "world"
    for name, cell, fields in small_cells() if world else genre_cells(general=a.general, special=a.special):
        conditions[name], cells[name] = fields, cell
    if world:
        stages, start = [designs.pretraining(a.mlm_steps)], "stage:mlm"
        targets = designs.targets(a.targets or ("pawsx", "tydiqa"), steps=a.steps)
        for fields in targets.values():  # all targets speak of the special domain
            fields["data"] = {"world": {"special": dict.fromkeys((*fields["tasks"], *fields["evaluate"]), 1.0)}}
    else:
        targets = config.targets(a.targets or TARGETS)
    grid = config.grid(start=start, conditions=conditions, targets=targets, seeds=a.seeds)
    return config.pipeline(
        "domain",
        encoder=designs.encoder() if world else config.encoder(a.encoder),
        data={"source": a.source},
        system=designs.SYSTEM if world else {},
        study={
            "name": "domain",
            "cells": cells,
            "texts": 1000 if not world else 300,
            "limits": [] if world else ["Two genres of one data set and one format: domain is genre here."],
        },
        stages=[*stages, *grid],
    )


def genre_cells(*, general: str, special: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, cell, stage fields) of each genre and size; as many epochs for all, so larger sets take more steps."""
    for domain, genre in (("general", general), ("special", special)):
        for size in SIZES:
            fields = config.merged(config.intermediate(["mnli"]), {"tasks": {"mnli": {"limit": size}}})
            fields["select"] = {"every": 0}  # few steps: the last checkpoint
            fields["data"] = {"options": {"mnli": {"genre": genre}}}
            yield f"mnli-{genre}-{size}", {"format": "pair", "domain": domain, "size": size}, fields


def small_cells() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The same of the world: two formats; one epoch a set."""
    for form, task in FORMATS.items():
        for domain, share in (("general", 0.0), ("special", 1.0)):
            for size in WORLD_SIZES:
                fields = designs.training(task, steps=size // 16, limit=size)
                fields["data"] = {"world": {"special": {task: share}}}
                yield f"{task}-{domain}-{size}", {"format": form, "domain": domain, "size": size}, fields
