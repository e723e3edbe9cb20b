"""The smallest real pieces for tests: an encoder config, tasks of several families, random batches of theirs."""

from types import SimpleNamespace

import jax
import numpy as np

from xtl.data.batches import TrainStream, TrainTask
from xtl.data.rows import Encoded
from xtl.families import family
from xtl.models.encoder import EncoderConfig
from xtl.parallel.mesh import make_mesh
from xtl.task import Task
from xtl.tasks import get_task
from xtl.training import optim

CONFIG = EncoderConfig(vocab_size=64, hidden=32, layers=2, heads=4, mlp=64, max_positions=34)
MNLI, MLM, UDPOS, HELLASWAG = (get_task(name) for name in ("mnli", "mlm", "udpos", "hellaswag"))
TOKENIZER = SimpleNamespace(mask=63, vocab_size=64)  # all that masking asks of one


def one_device():
    return make_mesh((1, 1, 1), devices=jax.devices()[:1])


def hyper(**changes):
    settings = {
        "learning_rate": 1e-2,
        "warmup": 2,
        "steps": 20,
        "decay": "linear",
        "weight_decay": 0.1,
        "clip_norm": 1.0,
        "b1": 0.9,
        "b2": 0.98,
        "eps": 1e-8,
    }
    return optim.hyper(SimpleNamespace(**(settings | changes)))


def encoded(task: Task, *, examples: int = 40, seed: int = 0) -> Encoded:
    """Random examples of a task, 3 to 12 tokens a segment."""
    rng = np.random.default_rng(seed)
    choices = 4 if task.family == "choice" else 1
    ids = [[0, *rng.integers(4, 60, rng.integers(1, 11)).tolist(), 2] for _ in range(examples * choices)]
    columns: dict = {}
    if task.family == "pair":
        columns["segment_columns"] = {"label": rng.integers(0, len(task.labels), examples).tolist()}
    elif task.family == "choice":
        columns |= {"per_example": [choices] * examples}
        columns["example_columns"] = {"label": rng.integers(0, choices, examples).tolist()}
    elif task.family == "tag":
        tags = [[-1, *rng.integers(0, len(task.labels), len(s) - 2).tolist(), -1] for s in ids]
        columns["token_columns"] = {"tag": tags}
    return Encoded.from_segments(ids, **columns)


def stream(*tasks: Task, steps=6, batch_size=16, accumulate=1, shards=8, seed=0, host=(0, 1)):
    """A training stream over random examples of the tasks."""
    parts = [
        TrainTask(
            name=task.name,
            family=family(task),
            parts=[encoded(task, seed=i)],
            batch_size=batch_size,
            row_length=32 if task.family != "choice" else 64,
        )
        for i, task in enumerate(tasks)
    ]
    return TrainStream(
        parts,
        steps=steps,
        seed=seed,
        tokenizer=TOKENIZER,
        slots=4,
        accumulate=accumulate,
        shards=shards,
        shapes=1,
        host=host,
    )
