"""MultiNLI: does sentence b follow from a, contradict it, or neither? English; machine-translated training data of the
XNLI distribution load as further training languages (their files spell contradiction "contradictory")."""

from xtl.data.formats.base import At, Files, by_row
from xtl.data.formats.examples import Labels, pair
from xtl.data.formats.tables import ENTAILMENT_FIRST, Table, Tables, by_example
from xtl.data.formats.text import json_lines, tsv
from xtl.tasks.base import NLI, Task
from xtl.tasks.catalog._tables import words

LABELS = Labels("mnli", NLI, spelled={"contradictory": "contradiction"}, order=ENTAILMENT_FIRST, dropped=("-",))
TRANSLATED = words("ar bg de el es fr hi ru sw th tr ur vi zh")

ROW = pair(LABELS, "sentence1", "sentence2", label="gold_label")
HUB_ROWS = by_example(pair(LABELS, "premise", "hypothesis"))
GLUE = {"train": "train", "dev": "validation_{domain}", "test": "test_{domain}"}
ORIGINAL = {"train": "train", "dev": "dev_{domain}"}

TASK = Task(
    name="mnli",
    family="pair",
    about="MultiNLI: natural language inference, three labels",
    languages=("en",),
    splits=("train", "dev", "test"),
    metric="accuracy",
    labels=NLI,
    sizes={"train": 392702, "dev": 9815, "test": 9796},
    files=Files(
        task="mnli",
        folder=".",
        options={"domain": "matched"},  # or "mismatched"
        at=(
            At(
                paths=("mnli/MNLI/{split}.tsv",),
                splits={
                    "train": ("train", "train_9k"),
                    "dev": ("dev_{domain}", "dev_1k"),
                    "test": "test_{domain}",
                },
                languages=("en",),
                read=by_row(tsv, ROW),
            ),
            At(
                paths=("mnli/multinli_1.0/multinli_1.0_{split}.jsonl",),
                splits=ORIGINAL,
                languages=("en",),
                read=by_row(json_lines, ROW),
            ),
            At(
                paths=("xnli/XNLI-MT-1.0/multinli/multinli.train.{language}.tsv",),
                splits={"train": "train"},
                languages=("en", *TRANSLATED),
                read=by_row(tsv, pair(LABELS, "premise", "hypo")),
            ),
        ),
        get="Unpack MNLI.zip of gluebenchmark.com into mnli/ (translations: XNLI-MT-1.0.zip into xnli/)",
    ),
    hub=Tables(
        task="mnli",
        options={"domain": "matched"},
        at=(
            Table(name="nyu-mll/glue", config="mnli", splits=GLUE, languages=("en",), read=HUB_ROWS),
            Table(
                name="facebook/xnli",
                config="{language}",
                splits={"train": "train"},
                languages=("en", *TRANSLATED),
                read=HUB_ROWS,
            ),
        ),
    ),
    tfds=Tables(
        task="mnli",
        options={"domain": "matched"},
        at=(Table(name="glue/mnli", splits=GLUE, languages=("en",), read=HUB_ROWS),),
    ),
    options={"translated": TRANSLATED},
    licence="OANC; parts CC BY 3.0 and CC BY-SA 3.0",
)
