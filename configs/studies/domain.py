"""Study: does it help when the intermediate data is from the target's domain, and does size change that?

    xtl plan --config=configs/studies/domain.py --topology=v5e:4x4
    xtl run  --config=configs/studies/domain.py --workdir=runs/domain
    xtl run  --config=configs/studies/domain.py:formats=pair+span,encoder=base --workdir=runs/domain_base
    xtl run  --config=configs/studies/domain.py:source=files --config.data.root=DATA
    xtl run  --config=configs/studies/domain.py:source=world --workdir=runs/domain_world

Conditions: none, and format x domain x size of the intermediate set, the domains of a format trained alike:

    format  general             special            sizes
    pair    MNLI, slate         MNLI, telephone    500, 1000, 2000, 5000, 10,000
    choice  Cosmos QA           MedMCQA            500, 1000, 2000, 5000, 10,000
    span    SQuAD 1.1           COVID-QA           500, 1000, 2000

COVID-QA has 2,019 questions, on whole articles: each is cut to a passage of about the length of SQuAD's paragraphs (774
characters on average, development set), or as many questions would make dozens of times as many windows and steps.

Targets: one of each format, and two of tagging, which no condition shares. Not among them: XNLI, XQuAD and MLQA, which
train on MNLI or SQuAD, so that the general sets would be a part of the target's own training data.

In the world pairs and spans, five sizes, with a special domain of its own nouns and verbs, which all targets speak of.
Ends in report/domain.html: gain over none by domain and size, and the interaction of log2 size with the similarity of
domains (1 - Jensen-Shannon divergence of unigrams, measured on the texts used).

Cost: 130 intermediate trainings of at most 10,000 examples and 675 target trainings, 135 of them in two stages (five
seeds): 138 chip-hours of a v5e at 40 % utilisation for the large encoder by `xtl plan` (sizes of the catalog, lengths
assumed; not measured). One format alone: 53 (pair), 61 (choice), 33 (span).
Expect: the interaction is estimated once a seed, so five seeds find only large ones.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from xtl import config
from xtl.errors import XtlError, nearest
from xtl.studies import designs

TARGETS = ("pawsx", "xcopa", "tydiqa", "udpos", "panx")
UP_TO_10K = (500, 1000, 2000, 5000, 10_000)
FORMATS = {  # format: (the general task, whose published recipe trains both domains; sizes)
    "pair": ("mnli", UP_TO_10K),
    "choice": ("cosmosqa", UP_TO_10K),
    "span": ("squad_v1", UP_TO_10K[:3]),
}
PASSAGE = 800  # characters
WORLD_FORMATS, WORLD_SIZES = {"pair": "mnli", "span": "squad_v1"}, (250, 500, 1000, 2000, 4000)
WORLD_TARGETS = ("udpos", "tydiqa")  # pairs stay at chance on so small an encoder
LIMITS = {
    "pair": "Pairs: two genres of one data set; domain is genre there.",
    "choice": "Choices: Cosmos QA has a paragraph to read, MedMCQA asks for knowledge; more than domain differs.",
    "span": "Spans: a set is the first questions of its file, so the smallest are on few articles.",
}
GENERAL = (
    "No target is biomedical: special sets are far from all of them, each as far as its similarity says.",
    "Similarity is measured on equally many texts a side, which are not equally long.",
)


def get_config(arg: str = "") -> ConfigDict:
    a = config.arguments(
        arg,
        source="hub",
        encoder="large",
        start="",
        formats=(),  # of FORMATS; () = all that the source has
        general="slate",
        special="telephone",  # genres of MNLI
        targets=(),
        seeds=(0, 1, 2, 3, 4),
        mlm_steps=designs.MLM_STEPS,
        steps=100,  # of a target in the world
    )
    conditions: dict[str, Any] = {"none": None}
    cells: dict[str, dict[str, Any]] = {}
    stages, start, world = [], a.start or f"FacebookAI/xlm-roberta-{a.encoder}", a.source == "world"
    formats = chosen(a.formats, WORLD_FORMATS if world else FORMATS)
    rows = small_cells(formats) if world else real_cells(formats, general=a.general, special=a.special)
    for name, cell, fields in rows:
        conditions[name], cells[name] = fields, cell
    if world:
        stages, start = [designs.pretraining(a.mlm_steps)], "stage:mlm"
        targets = designs.targets(a.targets or WORLD_TARGETS, steps=a.steps)
        for fields in targets.values():  # all targets speak of the special domain
            fields["data"] = {"world": {"special": dict.fromkeys((*fields["tasks"], *fields["evaluate"]), 1.0)}}
    else:
        targets = published(a.targets or TARGETS)
    grid = config.grid(start=start, conditions=conditions, targets=targets, seeds=a.seeds)
    return config.pipeline(
        "domain",
        encoder=designs.encoder() if world else config.encoder(a.encoder),
        data=designs.data(a.source),
        system=designs.SYSTEM if world else {},
        study={
            "name": "domain",
            "cells": cells,
            "texts": 1000 if not world else 300,
            "limits": [] if world else [*(LIMITS[form] for form in formats), *GENERAL],
        },
        stages=[*stages, *grid],
    )


def chosen(formats: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The formats asked for, or all that are known."""
    for form in formats:
        if form not in known:
            raise XtlError(f"formats: this source has no format {form!r}.{nearest(form, known)}")
    return tuple(formats or known)


def published(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Target stages by jiant's recipes; XCOPA by XTREME's, Social IQa and then COPA."""
    columns = config.targets([name for name in names if name != "xcopa"], benchmark="xtreme")
    if "xcopa" in names:
        columns |= config.targets(["xcopa"], source="xtreme", benchmark="xtreme-r")
    return columns


def real_cells(
    formats: Iterable[str], *, general: str, special: str
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, cell, stage fields) of each set and size; as many epochs for all, so larger sets take more steps."""
    sets: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (  # format, domain, name, task, options of its data
        ("pair", "general", f"mnli-{general}", "mnli", {"genre": general}),
        ("pair", "special", f"mnli-{special}", "mnli", {"genre": special}),
        ("choice", "general", "cosmosqa", "cosmosqa", {}),
        ("choice", "special", "medmcqa", "medmcqa", {}),
        ("span", "general", "squad_v1", "squad_v1", {}),
        ("span", "special", "covidqa", "covidqa", {"passage": PASSAGE}),
    )
    for form, domain, name, task, reading in sets:
        if form not in formats:
            continue
        like, sizes = FORMATS[form]
        for size in sizes:
            fields = config.intermediate([like])
            fields["tasks"] = {task: {**fields["tasks"][like], "limit": size}}
            fields["select"] = {"every": 0}  # few steps: the last checkpoint; COVID-QA has no development set
            if reading:
                fields["data"] = {"options": {task: reading}}
            yield f"{name}-{size}", {"format": form, "domain": domain, "size": size}, fields


def small_cells(formats: Iterable[str]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The same of the world; one epoch a set."""
    for form in formats:
        task = WORLD_FORMATS[form]
        for domain, share in (("general", 0.0), ("special", 1.0)):
            for size in WORLD_SIZES:
                fields = designs.training(task, steps=size // designs.BATCH, limit=size)
                fields["data"] = {"world": {"special": {task: share}}}
                yield f"{task}-{domain}-{size}", {"format": form, "domain": domain, "size": size}, fields
