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

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xtl.config.build import bare, encoder, pipeline, stage
    from xtl.config.completion import task_weights, with_steps
    from xtl.config.fingerprint import fingerprints
    from xtl.config.grids import grid, merged, swept, targets
    from xtl.config.load import arguments, load_config, override
    from xtl.config.recipes import intermediate, recipe
    from xtl.config.resolution import resolve

# Loaded when first asked for: a mistake in a command line must not wait for what resolving takes.
_HOMES = {
    "arguments": "load",
    "bare": "build",
    "encoder": "build",
    "fingerprints": "fingerprint",
    "grid": "grids",
    "intermediate": "recipes",
    "load_config": "load",
    "merged": "grids",
    "override": "load",
    "pipeline": "build",
    "recipe": "recipes",
    "resolve": "resolution",
    "stage": "build",
    "swept": "grids",
    "targets": "grids",
    "task_weights": "completion",
    "with_steps": "completion",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
