"""ANLI+ (the paper's first intermediate task): SNLI, MultiNLI and the three rounds of ANLI under one head.

The sets are joined, so each is drawn in proportion to its size; the data option `parts` takes fewer of them. Which
development set the paper used is not known; here it is the join of all of them.
"""

from xtl.data.sources.formats.base import Join
from xtl.data.sources.formats.tables import JoinedTables
from xtl.task import NLI, Task
from xtl.tasks import anli, mnli, snli

PARTS = (snli.TASK, mnli.TASK, anli.TASK)

TASK = Task(
    name="anli_plus",
    family="pair",
    about="SNLI + MultiNLI + ANLI rounds 1 to 3: five sets, one head",
    languages=("en",),
    splits=("train", "dev"),
    metric="accuracy",
    labels=NLI,
    sizes={split: sum(t.sizes[split] for t in PARTS) for split in ("train", "dev")},  # type: ignore[misc]
    files=Join(task="anli_plus", parts={t.name: t.files for t in PARTS}),  # type: ignore[misc]
    hub=JoinedTables(task="anli_plus", parts={t.name: t.hub for t in PARTS}),  # type: ignore[misc]
    tfds=JoinedTables(task="anli_plus", parts={t.name: t.tfds for t in PARTS}),  # type: ignore[misc]
    licence="as its parts",
)
