"""Mewsli-X: link a mention to its entity, described in one of 50 languages. A dual encoder, trained on English.

The pool, about a million entities, is the same for every language of the mentions.
"""

from xtl.data.sources.formats import dual
from xtl.data.sources.formats.base import At, Files
from xtl.task import Task
from xtl.tasks._tables import counts, words

MENTIONS = "wikinews_mentions-{split}.jsonl"

TASK = Task(
    name="mewslix",
    family="dual",
    about="Mewsli-X: entity linking in 11 languages against 50, trained on English Wikipedia",
    languages=words("ar de en es fa ja pl ro ta tr uk"),
    splits=("train", "dev", "test"),
    metric="map20",
    train="mewslix",
    max_length=64,
    retrieval=True,
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
                paths=(MENTIONS, "candidate_set_entities.jsonl"),
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
