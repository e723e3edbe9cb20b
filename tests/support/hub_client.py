"""A process that loads through the unmodified code what it is told to: a line of JSON in, a line of JSON out.

The libraries read HF_ENDPOINT and HF_HOME when they are imported, so tests that speak to a server of their own cannot
do it in their own process.
"""

import dataclasses
import json
import os
import sys
import traceback
from typing import Any

from xtl.data.settings import Data
from xtl.errors import XtlError


def load(task: str, language: str, split: str, **data: Any) -> dict[str, Any]:
    """The examples, each as a list of its fields."""
    from xtl.data import sources
    from xtl.tasks import get_task

    loaded = sources.load(get_task(task), language, split, Data(**{"source": "hub", **data}))
    examples = [[getattr(e, f.name) for f in dataclasses.fields(e)] for e in loaded.examples]
    return {"examples": examples, "gold": loaded.gold, "dropped": dict(loaded.dropped), "files": loaded.files}


def forget() -> None:
    """What was learnt about repositories, as a new process would not know it."""
    from xtl.data.sources import hub

    hub.repository.cache_clear()
    hub.locate.cache_clear()


def revision(task: str, language: str, split: str) -> str:
    from xtl.data import sources
    from xtl.tasks import get_task

    forget()
    return sources.revision(get_task(task), Data(source="hub"), language=language, split=split)


def encoder(name: str) -> dict[str, Any]:
    """Sum of the weights and the sizes of a checkpoint named by its hub id."""
    import jax
    import numpy as np

    from xtl.models.hf.load import load_hf

    loaded = load_hf(name)
    total = sum(float(np.abs(leaf).sum()) for leaf in jax.tree.leaves(loaded.params))
    return {"hidden": loaded.config.hidden, "layers": loaded.config.layers, "sum": total, "report": str(loaded.report)}


def tokenizer(name: str, text: str) -> list[int]:
    from xtl.data.tokenizer import load_tokenizer

    return load_tokenizer(name).encode_ids_batch([text])[0].tolist()


def pack(task: str, language: str, split: str, folder: str) -> list[str]:
    from pathlib import Path

    from xtl.data.sources.pack import pack as gather
    from xtl.tasks import get_task

    return [str(p) for p in gather([(get_task(task), language, split)], Data(source="hub"), Path(folder))]


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes elsewhere
    from xtl import network

    network.WAIT_S = 0.02
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer: Any = {"made": globals()[asked.pop("do")](**asked)}
        except XtlError as error:
            answer = {"error": str(error)}
        except Exception:
            answer = {"crash": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
