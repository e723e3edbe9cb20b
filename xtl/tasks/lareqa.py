"""LAReQA (XQuAD-R): find the answer sentence in a pool of eleven languages. A dual encoder, trained on SQuAD 1.1.

A question has one right sentence in each language. Ids are `LANGUAGE:QUESTION` and `LANGUAGE:PARAGRAPH-SENTENCE`; the
gold of one language joins its questions to its own sentences, and equal QUESTION parts join the languages. A candidate
is the sentence, a tab, its paragraph.
"""

from xtl.data.sources.formats import dual
from xtl.data.sources.formats.base import At, Files
from xtl.task import Task
from xtl.tasks._tables import words

TASK = Task(
    name="lareqa",
    family="dual",
    about="LAReQA: answer sentence retrieval from a pool in 11 languages, trained on SQuAD 1.1",
    languages=words("ar de el en es hi ru th tr vi zh"),
    splits=("train", "dev", "test"),
    metric="map20",
    train="lareqa",
    max_length=256,
    retrieval=True,
    sizes={"train": {"en": 87599}, "dev": {"en": 10570}, "test": 1190},
    files=Files(
        task="lareqa",
        folder=".",
        at=(
            At(paths=("lareqa/xquad-r/{language}.json",), splits={"test": "test"}, read=dual.read_xquad_r),
            At(
                paths=("squad/{split}-v1.1.json",),
                splits={"train": "train", "dev": "dev"},
                languages=("en",),
                read=dual.read_squad,
            ),
        ),
        get="Put xquad-r/ of github.com/google-research-datasets/lareqa into lareqa/",
    ),
    options={"query_length": 96, "pool": "all languages"},
    benchmarks=("xtreme-r",),
    licence="CC BY-SA 4.0",
)
