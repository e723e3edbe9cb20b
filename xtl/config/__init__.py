"""Configs: written by short Python programs, completed and checked before anything runs.

    from xtl import config

    config.pipeline("squad", encoder=config.encoder("base"), stages=[
        config.stage("squad_v1", start="FacebookAI/xlm-roberta-base", intermediate="squad_v1",
                     **config.recipe("squad_v1", source="paper")),
        config.stage("squad_v1-xnli", start="stage:squad_v1", intermediate="squad_v1", **config.recipe("xnli")),
    ])

A file in configs/ wraps such lines in `get_config(arg)`; the command line and `load_config` read that file. What a
config leaves open (languages, lengths, digests of the data) `resolve` fills in.
"""

from xtl.config.build import bare, encoder, pipeline, stage
from xtl.config.completion import task_weights, with_steps
from xtl.config.fingerprint import fingerprints
from xtl.config.grids import grid, merged, swept, targets
from xtl.config.load import arguments, load_config, override
from xtl.config.recipes import intermediate, recipe
from xtl.config.resolution import resolve

__all__ = [
    "arguments",
    "bare",
    "encoder",
    "fingerprints",
    "grid",
    "intermediate",
    "load_config",
    "merged",
    "override",
    "pipeline",
    "recipe",
    "resolve",
    "stage",
    "swept",
    "targets",
    "task_weights",
    "with_steps",
]
