"""What is kept of a step that was not applied: its batch as it went to the device, and which examples it held."""

import io

import numpy as np

from xtl import files
from xtl.data import sources
from xtl.parallel import multihost
from xtl.tasks import get_task
from xtl.training.meter import Fault
from xtl.training.setup import Material, Run


def keep(run: Run, material: Material, fault: Fault) -> str:
    """Write bad_steps/<step>.json and, with this host's rows, <step>.npz into the stage's folder; returns the former.

    The batch is assembled again: it is a pure function of the stage and the step.
    """
    path = files.join(run.folder, "bad_steps", f"{fault.step}.json")
    if multihost.is_first():
        _, batch = material.stream[fault.step - 1]
        arrays = io.BytesIO()
        np.savez_compressed(arrays, allow_pickle=False, **batch)
        files.atomic_write(files.join(run.folder, "bad_steps", f"{fault.step}.npz"), arrays.getvalue())
        measured = {"loss": str(fault.loss), "grad_norm": str(fault.grad_norm)}
        files.write_json(
            path,
            {"step": fault.step, "task": fault.task, **measured, "examples": example_ids(run, material, fault.step)},
        )
    return path


def example_ids(run: Run, material: Material, step: int) -> list[str]:
    """`language/id` of the examples of a step (from 1), in their order in the batch."""
    name, examples = material.stream.examples(step - 1)
    languages, task = run.stage.tasks[name].languages, get_task(name)
    parts = next(trained.parts for trained in material.stream.tasks if trained.name == name)
    loaded = {part: sources.load(task, languages[part], "train", run.stage.data).examples for part, _ in examples}
    ids = []
    for part, index in examples:
        source = parts[part].segment_columns.get("_example")
        row = index if source is None else int(source[parts[part].example_offsets[index]])
        ids.append(f"{languages[part]}/{loaded[part][row].id}")
    return ids
