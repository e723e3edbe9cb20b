"""The data section of a stage: where its examples come from, and how they become pieces."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Source = Literal["files", "hub", "tfds", "world"]


@dataclass(frozen=True)
class Data:
    """Where examples come from. Read by `xtl.data.sources`, the token cache and the tokenizer."""

    source: Source = "files"
    sources: Mapping[str, Any] = field(default_factory=dict)  # of single tasks, where it is another: {"ccg": "files"}
    root: str = ""  # folder of the original distribution files; of local copies for hub and tfds
    cache: str = ""  # tokenised examples; "" = WORKDIR/cache
    tokenizer: str = ""  # folder, hub id, or "world"; "" = XLM-R's from the hub, or the world's own; {root} = root
    world: Mapping[str, Any] = field(default_factory=dict)  # xtl.world.options.World
    options: Mapping[str, Any] = field(default_factory=dict)  # for the readers, by task: {"udpos": {"fusion": True}}
    revision: Mapping[str, Any] = field(default_factory=dict)  # derived: digests of what is read, by split/task
