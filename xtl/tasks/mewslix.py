"""Mewsli-X: link a mention to its entity, described in one of 50 languages. A dual encoder, trained on English.

The pool, about a million entities, is the same for every language of the mentions. A checkpoint is selected on held-out
pairs (`mewslix_pairs`), as the mentions of the development set would need that pool each time.
"""

from xtl.benchmark.aggregate import XTREME_R
from xtl.data.sources.formats import dual
from xtl.data.sources.formats.base import At, Files
from xtl.task import Task
from xtl.tasks._tables import counts

MENTIONS = "wikinews_mentions-{split}.jsonl"
ENTITIES = "candidate_set_entities.jsonl"
POOL = "entities"  # stands for a language where the pool is loaded

TASK = Task(
    name="mewslix",
    family="dual",
    about="Mewsli-X: entity linking in 11 languages against 50, trained on English Wikipedia",
    languages=XTREME_R.languages["mewslix"],
    splits=("train", "dev", "test"),
    metric="map20",
    train="mewslix",
    max_length=64,
    retrieval=True,
    pool={"dev": {POOL: 1003893}, "test": {POOL: 1003893}},
    sizes={
        "train": {"en": 167719},
        "dev": counts("ar=318 de=326 en=316 es=311 fa=72 ja=310 pl=304 ro=145 ta=312 tr=262 uk=315"),
        "test": counts("ar=1501 de=1551 en=1490 es=1552 fa=458 ja=1519 pl=1562 ro=672 ta=1567 tr=1215 uk=1537"),
    },
    files=Files(
        task="mewslix",
        at=(
            At(
                paths=("wikipedia_pairs-{split}.jsonl",),
                splits={"train": "train"},
                languages=("en",),
                read=dual.read_mention_pairs,
            ),
            At(
                paths=(ENTITIES,),
                splits={"dev": "dev", "test": "test"},
                languages=(POOL,),
                read=dual.read_entities,
            ),
            At(
                paths=(MENTIONS, ENTITIES),
                splits={"dev": "dev", "test": "test"},
                inside=dual.mention_languages,
                read=dual.read_mentions,
            ),
        ),
        get="Run get-mewsli-x.sh of github.com/google-research/google-research "
        "(dense_representations_for_entity_retrieval/mel) and put its *.jsonl into mewslix/",
    ),
    benchmarks=("xtreme-r",),
    licence="CC BY-SA 4.0 (Wikipedia), CC BY 2.5 (WikiNews)",
)
