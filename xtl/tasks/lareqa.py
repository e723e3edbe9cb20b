"""LAReQA (XQuAD-R): find the answer sentences in a pool of eleven languages. A dual encoder, trained on SQuAD 1.1.

A question has one right sentence in each language, eleven in the pool of 13,014. Ids are `LANGUAGE:QUESTION` and
`LANGUAGE:PARAGRAPH-SENTENCE`. A candidate is the sentence with its paragraph behind it.
"""

from xtl.benchmark.aggregate import XTREME_R
from xtl.data.sources.formats import dual
from xtl.data.sources.formats.base import At, Files
from xtl.task import Task
from xtl.tasks._tables import counts

TASK = Task(
    name="lareqa",
    family="dual",
    about="LAReQA: answer sentence retrieval from a pool in 11 languages, trained on SQuAD 1.1",
    languages=XTREME_R.languages["lareqa"],
    splits=("train", "dev", "test"),
    metric="map20",
    train="lareqa",
    max_length=256,
    retrieval=True,
    pool={
        "test": counts(
            "ar=1222 de=1276 el=1234 en=1180 es=1215 hi=1244 ru=1219 th=852 tr=1167 vi=1209 zh=1196",
        )
    },
    sizes={"train": {"en": 87599}, "dev": {"en": 10570}, "test": 1190},
    files=Files(
        task="lareqa",
        folder=".",
        at=(
            At(
                paths=("lareqa/xquad-r/{language}.json", "lareqa/xquad-r/*.json"),
                splits={"test": "test"},
                read=dual.read_xquad_r,
            ),
            At(
                paths=("squad/{split}-v1.1.json",),
                splits={"train": "train", "dev": "dev"},
                languages=("en",),
                read=dual.read_squad,
            ),
        ),
        get="Put xquad-r/ of github.com/google-research-datasets/lareqa into lareqa/",
    ),
    options={"query_length": 96},
    benchmarks=("xtreme-r",),
    licence="CC BY-SA 4.0",
)
