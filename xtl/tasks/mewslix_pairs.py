"""Held-out training pairs of Mewsli-X: mentions in English Wikipedia and their entities. Selects its checkpoint."""

from xtl.data.sources.formats import dual
from xtl.data.sources.formats.base import At, Files
from xtl.task import Task
from xtl.tasks import mewslix

TASK = Task(
    name="mewslix_pairs",
    family="dual",
    about="Mewsli-X: held-out English Wikipedia pairs, to select a checkpoint by",
    languages=("en",),
    splits=("dev",),
    metric="map20",
    train="mewslix",
    max_length=64,
    sizes={"dev": 14051},
    files=Files(
        task="mewslix_pairs",
        folder="mewslix",
        at=(At(paths=("wikipedia_pairs-{split}.jsonl",), splits={"dev": "dev"}, read=dual.read_mention_pairs),),
        get="As for mewslix",
    ),
    options={"world": "entities"},
    licence=mewslix.TASK.licence,
)
