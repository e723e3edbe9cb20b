"""Small repositories in the layouts of the real ones: names, configs, splits, columns, class names."""

import json
from collections.abc import Mapping
from typing import Any

from datasets import ClassLabel, Dataset, Features, List, Value

from tests.support.hub_server import Hub
from xtl.task import UPOS

TEXT = Value("string")
NLI = ClassLabel(names=["entailment", "neutral", "contradiction"])
PAIR = {"premise": TEXT, "hypothesis": TEXT, "label": NLI}
ANSWERS = {"text": List(TEXT), "answer_start": List(Value("int32"))}
QUESTION = {"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS}
FLAT_QUESTION = {name: QUESTION[name] for name in ("id", "context", "question", "answers")}
PANX = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
ARTICLE = {"id": TEXT, "url": TEXT, "title": TEXT, "text": TEXT}
ALIGNED = {"source_sentence": TEXT, "target_sentence": TEXT, "source_lang": TEXT, "target_lang": TEXT}


def rows(features: Mapping[str, Any], *values: tuple) -> Dataset:
    """A table from its features and its rows."""
    return Dataset.from_list([dict(zip(features, row, strict=True)) for row in values], features=Features(features))


def splits(features: Mapping[str, Any], **values: list[tuple]) -> dict[str, Dataset]:
    return {name: rows(features, *given) for name, given in values.items()}


def asked(id: str, context: str, answer: str, start: int | None = None) -> dict[str, Any]:
    answers = {"text": [answer] if answer else [], "answer_start": [context.index(answer)] if answer else []}
    if start is not None:
        answers["answer_start"] = [start]
    return {"id": id, "title": "T", "context": context, "question": "Wer?", "answers": answers}


def questions(features: Mapping[str, Any], *given: dict[str, Any]) -> Dataset:
    return rows(features, *(tuple(q[name] for name in features) for q in given))


def add_all(hub: Hub) -> None:
    """Every repository that the catalog names."""
    _inference(hub)
    _questions(hub)
    _choices(hub)
    _tags_and_texts(hub)
    _xtreme(hub)


def _inference(hub: Hub) -> None:
    idx = Value("int32")
    hidden = ("a", "b", -1, 0)
    mnli = {"train": [("It is lit.", "It is dark.", 2, 0), ("It is lit.", "It burns.", 0, 1)]}
    mnli |= {f"validation_{d}": [(d, "b", 1, 0)] for d in ("matched", "mismatched")}
    mnli |= {f"test_{d}": [hidden] for d in ("matched", "mismatched")}
    long = {"promptID": idx, "pairID": TEXT, "premise": TEXT, "hypothesis": TEXT, "genre": TEXT, "label": NLI}
    given = [(1, "1e", "It is lit.", "It is dark.", "travel", 2), (2, "2e", "It is lit.", "It burns.", "fiction", 0)]
    tables = dict.fromkeys(("train", "validation_matched", "validation_mismatched"), given)
    hub.add_tables("nyu-mll/multi_nli", {"default": splits(long, **tables)})
    same = ClassLabel(names=["not_duplicate", "duplicate"])
    qqp = {"train": [("Why?", "How come?", 1, 0)], "validation": [("Why?", "Who?", 0, 0)], "test": [hidden]}
    glue = {
        "mnli": splits({**PAIR, "idx": idx}, **mnli),
        "qqp": splits({"question1": TEXT, "question2": TEXT, "label": same, "idx": idx}, **qqp),
    }
    hub.add_tables("nyu-mll/glue", glue)
    xnli = {
        x: splits(PAIR, train=[(x, "translated", 1)], validation=[(x, "v", 0)], test=[(x, "t", 2), (x, "u", 0)])
        for x in ("de", "en", "sw")
    }
    hub.add_tables("facebook/xnli", xnli)
    snli = splits(PAIR, train=[("a", "b", 0), ("c", "d", -1)], validation=[("a", "b", 1)], test=[("a", "b", 2)])
    hub.add_tables("stanfordnlp/snli", {"plain_text": snli})
    rounds = {f"{s}_r{n}": [(f"{s}{n}", "p", "h", 2, "")] for s in ("train", "dev", "test") for n in (1, 2, 3)}
    anli = {"uid": TEXT, **PAIR, "reason": TEXT}
    hub.add_tables("facebook/anli", {"plain_text": splits(anli, **rounds)})
    pawsx = {"id": Value("int32"), "sentence1": TEXT, "sentence2": TEXT, "label": ClassLabel(names=["0", "1"])}
    given = {s: [(1, 'Der "Brief" kam.', "Er kam.", 1)] for s in ("train", "validation", "test")}
    hub.add_tables("google-research-datasets/paws-x", {"de": splits(pawsx, **given)})


def _questions(hub: Hub) -> None:
    first = asked("q1", "Ada fährt nach Holm. 🛶 Gut.", "Holm")
    none = asked("q2", "Ada rows.", "")
    for name, config, held in (("squad", "plain_text", [first]), ("squad_v2", "squad_v2", [first, none])):
        tables = {split: questions(QUESTION, *held) for split in ("train", "validation")}
        hub.add_tables(f"rajpurkar/{name}", {config: tables})
    tydi = [asked("swahili-1-0", "Gati 1901.", "1901", start=7), asked("english-2-0", "Pier 1901.", "1901")]
    tables = {split: questions(QUESTION, *tydi) for split in ("train", "validation")}
    hub.add_tables("google-research-datasets/tydiqa", {"secondary_task": tables})
    german = questions(FLAT_QUESTION, first)
    translated = dict.fromkeys(("train", "validation"), german)
    mlqa = {"mlqa.de.de": {"test": german, "validation": german}, "mlqa-translate-train.de": translated}
    hub.add_tables("facebook/mlqa", mlqa)
    hub.add_tables("google/xquad", {"xquad.de": {"validation": german}})
    covid = {"document_id": Value("int32"), "context": TEXT, "question": TEXT, "is_impossible": Value("bool")}
    covid |= {"id": Value("int32"), "answers": ANSWERS}
    shifted = {"text": ["by river"], "answer_start": [16]}  # the context has lost two line ends
    given = [(630, "Fever spreads by river.", "How?", False, 262, shifted)]
    hub.add_tables("deepset/covid_qa_deepset", {"covid_qa_deepset": splits(covid, train=given)})


def _choices(hub: Hub) -> None:
    swag = {"ind": Value("int32"), "activity_label": TEXT, "ctx_a": TEXT, "ctx_b": TEXT, "ctx": TEXT}
    swag |= {"endings": List(TEXT), "source_id": TEXT, "split": TEXT, "split_type": TEXT, "label": TEXT}
    row = (1, "Rowing", "A man.", "he", "A man. he", ["a", "b", "c", "d"], "s", "train", "indomain")
    given = {"train": [(*row, "2")], "validation": [(*row, "0")], "test": [(*row, "")]}
    hub.add_tables("Rowan/hellaswag", {"default": splits(swag, **given)})
    csqa = {"id": TEXT, "question": TEXT, "question_concept": TEXT}
    csqa |= {"choices": {"label": List(TEXT), "text": List(TEXT)}, "answerKey": TEXT}
    options = {"label": list("ABCDE"), "text": ["v", "w", "x", "y", "z"]}
    given = {s: [("q", "Where?", "place", options, key)] for s, key in zip(THREE, ("C", "A", ""), strict=True)}
    hub.add_tables("tau/commonsense_qa", {"default": splits(csqa, **given)})
    cosmos = {"id": TEXT, "context": TEXT, "question": TEXT, **{f"answer{i}": TEXT for i in range(4)}}
    cosmos["label"] = Value("int32")
    given = {s: [(s, "It rained.", "Why?", "a", "b", "c", "d", n)] for s, n in zip(THREE, (2, 3, -1), strict=True)}
    hub.add_script("allenai/cosmos_qa", splits(cosmos, **given))
    medical = {"id": TEXT, "question": TEXT, **{f"op{x}": TEXT for x in "abcd"}, "cop": ClassLabel(names=list("abcd"))}
    medical |= dict.fromkeys(("choice_type", "exp", "subject_name", "topic_name"), TEXT)
    rest = ("single", "", "Medicine", None)
    given = {s: [(s, "Why?", "a", "b", "c", "d", n, *rest)] for s, n in zip(THREE, (0, 3, -1), strict=True)}
    hub.add_tables("openlifescienceai/medmcqa", {"default": splits(medical, **given)})
    social = {"context": TEXT, "question": TEXT, "answerA": TEXT, "answerB": TEXT, "answerC": TEXT, "label": TEXT}
    given = {s: [("Ada left.", "Why?", "a", "b", "c", "2")] for s in ("train", "validation")}
    hub.add("allenai/social_i_qa", {"README.md": "# Social IQa\n", "social_i_qa.py": "import datasets\n"})
    hub.add_tables("lighteval/siqa", {"default": splits(social, **given)})
    two = ClassLabel(names=["choice1", "choice2"])
    copa = {"premise": TEXT, "choice1": TEXT, "choice2": TEXT, "question": TEXT, "idx": Value("int32"), "label": two}
    given = {s: [("p", "a", "b", "cause", 7, n)] for s, n in zip(THREE, (0, 1, -1), strict=True)}
    hub.add_tables("aps/super_glue", {"copa": splits(copa, **given)})
    xcopa = {"premise": TEXT, "choice1": TEXT, "choice2": TEXT, "question": TEXT, "label": Value("int32")}
    xcopa |= {"idx": Value("int32"), "changed": Value("bool")}
    given = {s: [("p", "a", "b", "effect", 1, 3, False)] for s in ("validation", "test")}
    hub.add_tables("cambridgeltl/xcopa", {"sw": splits(xcopa, **given)})


THREE = ("train", "validation", "test")


def _tags_and_texts(hub: Hub) -> None:
    names = {"tokens": List(TEXT), "ner_tags": List(ClassLabel(names=PANX)), "langs": List(TEXT), "spans": List(TEXT)}
    given = {s: [(["Ada", "huko"], [1, 0], ["sw", "sw"], ["PER: Ada"])] for s in THREE}
    hub.add_tables("unimelb-nlp/wikiann", {"sw": splits(names, **given)})
    long = "A sentence that is long enough to count as text."
    articles = [(str(i), "u", "t", f"{long} {i}\n\nHead\n{long} {long} {i}") for i in range(120)]
    hub.add_tables("wikimedia/wikipedia", {"20231101.fi": splits(ARTICLE, train=articles)})
    bucc = {"sentence1": List(TEXT), "sentence2": List(TEXT), "gold": List(List(Value("int64")))}
    hub.add_tables("mteb/BUCC", {"de-en": splits(bucc, test=[(["Boot", "Lampe"], ["x", "boat", "y"], [[1, 2]])])})


def _xtreme(hub: Hub) -> None:
    """google/xtreme: one repository with a config a task and language; labels of XNLI and PAWS-X are words."""
    tags = {"tokens": List(TEXT), "pos_tags": List(ClassLabel(names=list(UPOS)))}
    xnli = {"language": TEXT, "sentence1": TEXT, "sentence2": TEXT, "gold_label": TEXT}
    pawsx = {"sentence1": TEXT, "sentence2": TEXT, "label": TEXT}
    panx = {"tokens": List(TEXT), "ner_tags": List(ClassLabel(names=PANX)), "langs": List(TEXT)}
    german = questions(FLAT_QUESTION, asked("q1", "Ada fährt nach Holm.", "Holm"))
    words = {s: [(["in", "dem"], [1, 5])] for s in THREE}
    mixed = [("sw", "a", "b", "entailment"), ("de", "c", "d", "neutral")]
    tydi = questions(QUESTION, asked("swahili-1-0", "Gati 1901.", "1901"), asked("english-2-0", "Pier 1901.", "1901"))
    sentences = [("Boot\n", "boat\n", "deu", "eng"), ("Anker\n", "anchor\n", "deu", "eng")]
    gold = [("Boot", "boat", "de-000000007", "en-000000009")]
    configs = {
        "XNLI": splits(xnli, validation=mixed, test=mixed),
        "PAWS-X.de": splits(pawsx, **{s: [("Ein Satz.", "Kein Satz.", "0")] for s in THREE}),
        "PAN-X.sw": splits(panx, **{s: [(["Ada", "huko"], [1, 0], ["sw", "sw"])] for s in THREE}),
        "udpos.German": splits(tags, **words),
        "udpos.Afrikans": splits(tags, **words),
        "XQuAD.de": {"validation": german},
        "MLQA.de.de": {"validation": german, "test": german},
        "tydiqa": {"train": tydi, "validation": tydi},
        "tatoeba.deu": splits(ALIGNED, validation=sentences),
        "bucc18.de": splits(ALIGNED, validation=gold, test=gold),
    }
    hub.add_tables("google/xtreme", configs)


def add_checkpoint(hub: Hub, name: str, files: Mapping[str, bytes]) -> None:
    """A model repository with the files of a checkpoint beside what such repositories hold besides."""
    others = {"README.md": "# XLM-R\n", "pytorch_model.bin": b"pickle", "generation_config.json": json.dumps({})}
    hub.add(name, {**others, **files}, kind="models")
