"""SQuAD 1.1: the answer is a span of a Wikipedia paragraph. English; machine-translated training sets (XTREME's and
MLQA's) load as further training languages."""

from xtl.data.sources.formats import squad
from xtl.data.sources.formats.base import At, Files
from xtl.data.sources.formats.examples import flat_span
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.task import Task
from xtl.tasks._tables import words

MLQA_TRANSLATED = words("ar de es hi vi zh")
XTREME_TRANSLATED = words("ar bg bn de el es fi fr hi id ja ko ru sw te th tr vi zh")
XQUAD_TRANSLATED = words("ar de el es hi ru th tr vi zh")
SPLITS = {"train": "train", "dev": "validation"}

TASK = Task(
    name="squad_v1",
    family="span",
    about="SQuAD 1.1: questions answered by a span of the paragraph",
    languages=("en",),
    splits=("train", "dev"),
    metric="em_f1",
    max_length=384,
    sizes={"train": 87599, "dev": 10570},
    files=Files(
        task="squad_v1",
        folder=".",
        at=(
            At(
                paths=("squad/{split}-v1.1.json",),
                splits={"train": "train", "dev": "dev"},
                languages=("en",),
                read=squad.read(),
            ),
            At(
                paths=("squad/translate-train/squad.translate.train.en-{language}.json",),
                splits={"train": "train"},
                languages=XTREME_TRANSLATED,
                read=squad.read(),
            ),
            At(
                paths=("mlqa/mlqa-translate-train/{language}_squad-translate-train-{split}-v1.1.json",),
                splits={"train": "train", "dev": "dev"},
                languages=MLQA_TRANSLATED,
                read=squad.read(),
            ),
        ),
        get="Put train-v1.1.json and dev-v1.1.json of rajpurkar.github.io/SQuAD-explorer into squad/",
    ),
    hub=Tables(
        task="squad_v1",
        at=(
            Table(
                name="rajpurkar/squad",
                config="plain_text",
                splits=SPLITS,
                languages=("en",),
                read=by_example(flat_span),
            ),
            Table(
                name="facebook/mlqa",
                config="mlqa-translate-train.{language}",
                splits=SPLITS,
                languages=MLQA_TRANSLATED,
                read=by_example(flat_span),
            ),
        ),
    ),
    tfds=Tables(
        task="squad_v1",
        at=(
            Table(name="squad/v1.1", splits=SPLITS, languages=("en",), read=by_example(flat_span)),
            Table(
                name="xquad/{language}",
                splits={"train": "translate-train", "dev": "translate-dev"},
                languages=XQUAD_TRANSLATED,
                read=by_example(flat_span),
            ),
        ),
    ),
    options={"translated": XTREME_TRANSLATED},
    licence="CC BY-SA 4.0",
)
