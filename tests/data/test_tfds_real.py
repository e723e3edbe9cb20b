"""Source tfds: every data set the catalog names, written by TFDS in its own format with its own columns, read back.

Where TFDS's builder can be imported without TensorFlow its own class declares configs and columns; for the others these
are repeated here from its sources.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as library

from tests.fixtures.tfds_sets.builder import prepare, prepare_with
from xtl.data import sources
from xtl.data.settings import Data
from xtl.data.sources.formats.tables import JoinedTables
from xtl.errors import XtlError
from xtl.task import NLI, PANX_TAGS, UPOS
from xtl.tasks import catalog, get_task

f = library.features
ENTAILMENT_FIRST = ["entailment", "neutral", "contradiction"]
NAMES = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
LANGUAGES = ["ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"]
CONTEXT = "Gati la Holm lilijengwa mwaka 1901. 🛶"


def asked(id, answers=("1901",)):
    row = {"id": id, "title": "", "context": CONTEXT, "question": "Lini?"}
    return {**row, "answers": {"text": list(answers), "answer_start": [CONTEXT.index(a) for a in answers]}}


def nested(label):
    premise = {x: f"premise {x}" for x in LANGUAGES}
    return {"premise": premise, "hypothesis": {x: f"hypothesis {x}" for x in LANGUAGES}, "label": label}


OWN = {  # data sets whose builder needs no TensorFlow to be imported
    "snli": {s: [{"premise": "a", "hypothesis": "b", "label": x} for x in (0, -1)] for s in ("train", "validation")},
    **{
        f"anli/{r}": {"validation": [{"uid": r, "context": "c", "hypothesis": "h", "label": "c"}]}
        for r in ("r1", "r2", "r3")
    },
    "squad/v1.1": {"validation": [asked("q1"), asked("q2", ("Holm", "Gati"))]},
    "squad/v2.0": {
        "validation": [
            {**asked("q1"), "is_impossible": False, "plausible_answers": {"text": [], "answer_start": []}},
            {**asked("q2", ()), "is_impossible": True, "plausible_answers": asked("", ("Holm",))["answers"]},
        ]
    },
    "tydi_qa/goldp": {"validation": [asked("swahili-1-0"), asked("english-2-0")], "train": [asked("english-3-0")]},
    "mlqa/de": {"validation": [asked("d")], "test": [asked("t")]},
    "xquad/de": {"test": [asked("t")], "translate-train": [asked("tt")], "translate-dev": [asked("td")]},
    "tatoeba/tatoeba_de": {
        "train": [
            {"source_sentence": s, "target_sentence": t, "source_language": "de", "target_language": "en"}
            for s, t in (("Boot", "boat"), ("Anker", "anchor"))
        ]
    },
    "paws_x_wiki/de": {"train": [{"sentence1": 'Der "Brief" kam.', "sentence2": "Er kam.", "label": 1}]},
    "xtreme_pos/xtreme_pos_de": {"test": [{"tokens": ["in", "dem"], "upos": ["ADP", "DET"]}]},
}
REPEATED = {  # name -> (columns, rows)
    "glue/mnli": (
        {
            "premise": f.Text(),
            "hypothesis": f.Text(),
            "label": f.ClassLabel(names=ENTAILMENT_FIRST),
            "idx": np.int32,
        },
        {"train": [{"premise": "Die lämp.", "hypothesis": "b", "label": 2, "idx": 0}]},
    ),
    "glue/qqp": (
        {
            "question1": f.Text(),
            "question2": f.Text(),
            "label": f.ClassLabel(names=["not_duplicate", "duplicate"]),
            "idx": np.int32,
        },
        {
            "train": [{"question1": "Why?", "question2": "How?", "label": 1, "idx": 0}],
            "test": [{"question1": "Why?", "question2": "How?", "label": -1, "idx": 0}],
        },
    ),
    "xnli": (
        {
            "premise": f.Translation(languages=LANGUAGES),
            "hypothesis": f.TranslationVariableLanguages(languages=LANGUAGES),
            "label": f.ClassLabel(names=ENTAILMENT_FIRST),
        },
        {"validation": [nested("neutral")], "test": [nested("contradiction"), nested("entailment")]},
    ),
    "xtreme_xnli": (
        {
            "premise": f.Translation(languages=LANGUAGES),
            "hypothesis": f.TranslationVariableLanguages(languages=LANGUAGES),
            "label": f.ClassLabel(names=ENTAILMENT_FIRST),
        },
        {"train": [nested("contradiction")]},
    ),
    "xtreme_pawsx/fr": (
        {
            "sentence1": f.Text(),
            "sentence2": f.Text(),
            "label": f.ClassLabel(names=["different_meaning", "paraphrase"]),
        },
        {"train": [{"sentence1": "Un.", "sentence2": "Deux.", "label": "different_meaning"}]},
    ),
    "wikiann/sw": (
        {
            "tokens": f.Sequence(f.Text()),
            "tags": f.Sequence(f.ClassLabel(names=NAMES)),
            "langs": f.Sequence(f.Text()),
            "spans": f.Sequence(f.Text()),
        },
        {"test": [{"tokens": ["Ada", "huko", "Holm"], "tags": [1, 0, 5], "langs": ["sw"] * 3, "spans": ["PER: Ada"]}]},
    ),
    "hellaswag": (
        {
            "context": f.Text(),
            "endings": f.Sequence(f.Text()),
            "activity_label": f.Text(),
            "label": np.int32,
            "split_type": f.Text(),
            "source_id": f.Text(),
        },
        {
            "validation": [
                {
                    "context": "A man rows. he",
                    "endings": list("abcd"),
                    "activity_label": "Rowing",
                    "label": 3,
                    "split_type": "indomain",
                    "source_id": "x",
                }
            ]
        },
    ),
    "cosmos_qa": (
        {name: f.Text() for name in ("context", "question", "answer0", "answer1", "answer2", "answer3", "id")}
        | {"label": f.ClassLabel(num_classes=4)},
        {
            "validation": [
                {f"answer{i}": x for i, x in enumerate("abcd")}
                | {"context": "It rained.", "question": "Why?", "id": "c1", "label": 2}
            ]
        },
    ),
    "super_glue/copa": (
        {
            "premise": f.Text(),
            "choice1": f.Text(),
            "choice2": f.Text(),
            "question": f.Text(),
            "label": f.ClassLabel(names=["choice1", "choice2"]),
            "idx": np.int32,
        },
        {"validation": [{"premise": "p", "choice1": "a", "choice2": "b", "question": "effect", "label": 1, "idx": 4}]},
    ),
    "wikipedia/20230601.fi": (
        {"title": f.Text(), "text": f.Text()},
        {"train": [{"title": str(i), "text": f"A sentence that is long enough to be text {i}."} for i in range(120)]},
    ),
}
READ = [  # task, language, split, options; the first example's fields after the id
    ("snli", "en", "train", {}, ["a", "b", NLI.index("entailment")]),
    ("anli", "en", "dev", {}, ["c", "h", NLI.index("contradiction")]),
    ("mnli", "en", "train", {}, ["Die lämp.", "b", NLI.index("contradiction")]),
    ("mnli", "sw", "train", {}, ["premise sw", "hypothesis sw", NLI.index("contradiction")]),
    ("qqp", "en", "train", {}, ["Why?", "How?", 1]),
    ("qqp", "en", "test", {}, ["Why?", "How?", None]),
    ("xnli", "sw", "dev", {}, ["premise sw", "hypothesis sw", NLI.index("neutral")]),
    ("pawsx", "de", "train", {}, ['Der "Brief" kam.', "Er kam.", 1]),
    ("pawsx", "fr", "train", {}, ["Un.", "Deux.", 0]),
    ("squad_v1", "en", "dev", {}, ["Lini?", CONTEXT, (("1901", 30),)]),
    ("squad_v1", "de", "train", {}, ["Lini?", CONTEXT, (("1901", 30),)]),
    ("squad_v2", "en", "dev", {}, ["Lini?", CONTEXT, (("1901", 30),)]),
    ("tydiqa", "sw", "test", {}, ["Lini?", CONTEXT, (("1901", 30),)]),
    ("tydiqa", "en", "train", {}, ["Lini?", CONTEXT, (("1901", 30),)]),
    ("mlqa", "de", "test", {}, ["Lini?", CONTEXT, (("1901", 30),)]),
    ("xquad", "de", "test", {}, ["Lini?", CONTEXT, (("1901", 30),)]),
    ("tatoeba", "de", "test", {}, ["anchor", "query"]),
    ("udpos", "de", "test", {"fusion": False}, [("in", "dem"), (UPOS.index("ADP"), UPOS.index("DET"))]),
    ("panx", "sw", "test", {}, [("Ada", "huko", "Holm"), tuple(map(PANX_TAGS.index, ("B-PER", "O", "B-LOC")))]),
    ("hellaswag", "en", "dev", {}, ["A man rows. he", ("a", "b", "c", "d"), 3]),
    ("cosmosqa", "en", "dev", {}, ["It rained. Why?", ("a", "b", "c", "d"), 2]),
    ("copa", "en", "dev", {}, ["p What was the effect?", ("a", "b"), 1]),
    ("mlm", "fi", "train", {"articles": 100}, None),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A TFDS data folder with all of them prepared."""
    root = tmp_path_factory.mktemp("tfds")
    for name, rows in OWN.items():
        prepare_with(library.builder_cls(name.partition("/")[0]), root, name, rows)
    for name, (columns, rows) in REPEATED.items():
        prepare(root, name, columns, rows)
    return root


def load(folder, task, language, split, **options):
    data = Data(source="tfds", root=str(folder), options={task: options} if options else {})
    return sources.load(get_task(task), language, split, data)


@pytest.mark.parametrize("task, language, split, options, first", READ)
def test_prepared_data_sets_are_read(folder, task, language, split, options, first):
    examples = load(folder, task, language, split, **options).examples
    assert all(e.id for e in examples)
    if first is not None:
        fields = [getattr(examples[0], name) for name in type(examples[0]).__slots__]
        assert fields[1:] == first


def test_fewer_articles_than_asked_for_are_taken_all(folder):
    splits = [load(folder, "mlm", "fi", split, articles=20000).examples for split in ("train", "dev")]
    assert sum(map(len, splits)) == 120


def test_unanswerable_questions_have_no_answers_although_plausible_ones_are_given(folder):
    assert {e.id: e.answers for e in load(folder, "squad_v2", "en", "dev").examples}["q2"] == ()


def test_every_data_set_of_the_catalog_is_read_here():
    specs = [task.tfds for task in catalog().values() if task.tfds is not None]
    tables = [t for spec in specs if not isinstance(spec, JoinedTables) for t in spec.at]
    declared = {name.partition("/")[0] for t in tables for name in t.name.split("+")}
    assert declared == {name.partition("/")[0] for name in OWN | REPEATED}


def test_configs_of_the_catalog_are_those_of_the_library():
    """For every language: a table that declares what the library does not have would never be found."""
    there = {n.partition("/")[0] for n in OWN}
    for task in catalog().values():
        if task.tfds is None or isinstance(task.tfds, JoinedTables):
            continue
        for language in sources.every_language(task):
            for split in task.splits:
                options = {"fusion": False} if task.name == "udpos" else {}
                if not task.tfds.has(language, split, options):
                    continue
                for table, _ in task.tfds.candidates(language, split, options):
                    for name, _, config in (n.partition("/") for n in table.name.split("+")):
                        if name in there and config:
                            assert config in {c.name for c in library.builder_cls(name).BUILDER_CONFIGS}, table.name


def test_unprepared_tables_are_named_with_the_command(folder, monkeypatch):
    def absent(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'tensorflow'")

    monkeypatch.setattr(library, "builder", absent)
    with pytest.raises(XtlError, match=r"paws_x_wiki/es is not prepared.*, xtreme_pawsx/es$") as caught:
        load(folder, "pawsx", "es", "train")
    assert "tfds build paws_x_wiki/es --file_format=array_record" in str(caught.value)


def test_damaged_files_are_one_line(tmp_path):
    prepare(tmp_path, "wikiann/sw", *REPEATED["wikiann/sw"])
    (file,) = Path(tmp_path).rglob("*.array_record*")
    content = bytearray(file.read_bytes())
    content[len(content) // 3 :] = b""
    file.write_bytes(content)
    with pytest.raises(XtlError, match=r"tfds: .*wikiann/sw.*split test"):
        load(tmp_path, "panx", "sw", "test")


def test_a_process_that_reads_never_imports_tensorflow(folder):
    code = (
        "import sys; from xtl.data import sources; from xtl.data.settings import Data; from xtl.tasks import get_task; "
        f"data = Data(source='tfds', root={str(folder)!r}); "
        "assert len(sources.load(get_task('snli'), 'en', 'train', data).examples) == 1; "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=120)
