"""SQuAD 2.0: as 1.1, but a third of the questions cannot be answered from the paragraph. English."""

from xtl.data.sources.formats import squad
from xtl.data.sources.formats.base import At, Files
from xtl.data.sources.formats.examples import flat_span
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.task import Task

SPLITS = {"train": "train", "dev": "validation"}

TASK = Task(
    name="squad_v2",
    family="span",
    about="SQuAD 2.0: extractive question answering with unanswerable questions",
    languages=("en",),
    splits=("train", "dev"),
    metric="best_em_f1",
    max_length=384,
    sizes={"train": 130319, "dev": 11873},
    files=Files(
        task="squad_v2",
        at=(At(paths=("{split}-v2.0.json",), splits={"train": "train", "dev": "dev"}, read=squad.read()),),
        get="Put train-v2.0.json and dev-v2.0.json of rajpurkar.github.io/SQuAD-explorer into squad_v2/",
    ),
    hub=Tables(
        task="squad_v2",
        at=(Table(name="rajpurkar/squad_v2", config="squad_v2", splits=SPLITS, read=by_example(flat_span)),),
    ),
    tfds=Tables(task="squad_v2", at=(Table(name="squad/v2.0", splits=SPLITS, read=by_example(flat_span)),)),
    options={"unanswerable": True},
    licence="CC BY-SA 4.0",
)
