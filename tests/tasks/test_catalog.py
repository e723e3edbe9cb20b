"""Every task reads its original files; every trap of public copies is stepped around.

The fixtures hold invented sentences in the exact layouts of the distributions (`original`) and of XTREME's prepared
files (`xtreme`).
"""

from pathlib import Path

import pytest

from xtl.data import sources
from xtl.data.settings import Data
from xtl.data.sources.formats.base import Files, Join
from xtl.errors import XtlError
from xtl.task import NLI, UPOS, Choice, Pair, Span, Tagged, Text
from xtl.tasks import catalog, get_task

FIXTURES = Path(__file__).parents[1] / "fixtures"
KIND = {"pair": Pair, "choice": Choice, "span": Span, "tag": Tagged, "retrieve": Text, "mlm": Text}


def data(copy="original", **options):
    return Data(source="files", root=str(FIXTURES / copy), options=options)


def load(task, language, split, copy="original", **options):
    return sources.load(get_task(task), language, split, data(copy, **({task: options} if options else {})))


def examples(*args, **kwargs):
    return load(*args, **kwargs).examples


# ---------------------------------------------------------------- all tasks

EXPECTED = {  # (task, split) -> examples of each language in the fixtures
    ("mnli", "train"): {"en": 4},
    ("mnli", "dev"): {"en": 2},
    ("mnli", "test"): {"en": 1},
    ("snli", "train"): {"en": 2},
    ("snli", "dev"): {"en": 1},
    ("anli", "train"): {"en": 3},
    ("anli", "dev"): {"en": 3},
    ("anli_plus", "train"): {"en": 9},
    ("anli_plus", "dev"): {"en": 6},
    ("qqp", "train"): {"en": 2},
    ("qqp", "dev"): {"en": 1},
    ("qqp", "test"): {"en": 1},
    ("xnli", "dev"): {"de": 3, "en": 3, "sw": 3},
    ("xnli", "test"): {"de": 3, "en": 3, "sw": 3},
    ("pawsx", "train"): {"en": 3, "de": 3},
    ("pawsx", "dev"): {"de": 3, "en": 3},
    ("pawsx", "test"): {"de": 3, "en": 3},
    ("squad_v1", "train"): {"en": 3},
    ("squad_v1", "dev"): {"en": 1},
    ("squad_v2", "train"): {"en": 2},
    ("squad_v2", "dev"): {"en": 2},
    ("covidqa", "train"): {"en": 3},
    ("mlqa", "dev"): {"de": 2, "zh": 1},
    ("mlqa", "test"): {"de": 2, "zh": 1},
    ("xquad", "test"): {"en": 1, "th": 1},
    ("tydiqa", "train"): {"en": 2, "fi": 1, "sw": 1},
    ("tydiqa", "dev"): {"en": 2, "fi": 1, "sw": 1},
    ("tydiqa", "test"): {"en": 2, "fi": 1, "sw": 1},
    ("panx", "train"): {"en": 2},
    ("panx", "dev"): {"en": 1, "sw": 1},
    ("panx", "test"): {"en": 1, "sw": 1},
    ("udpos", "train"): {"de": 1, "en": 1},
    ("udpos", "dev"): {"en": 1},
    ("udpos", "test"): {"de": 2, "en": 1, "es": 1},
    ("ccg", "train"): {"en": 2},
    ("ccg", "dev"): {"en": 1},
    ("hellaswag", "train"): {"en": 2},
    ("hellaswag", "dev"): {"en": 1},
    ("hellaswag", "test"): {"en": 1},
    ("cosmosqa", "train"): {"en": 1},
    ("cosmosqa", "dev"): {"en": 1},
    ("cosmosqa", "test"): {"en": 1},
    ("medmcqa", "train"): {"en": 2},
    ("medmcqa", "dev"): {"en": 1},
    ("medmcqa", "test"): {"en": 1},
    ("commonsenseqa", "train"): {"en": 1},
    ("commonsenseqa", "dev"): {"en": 1},
    ("commonsenseqa", "test"): {"en": 1},
    ("socialiqa", "train"): {"en": 2},
    ("socialiqa", "dev"): {"en": 1},
    ("copa", "train"): {"en": 2},
    ("copa", "dev"): {"en": 1},
    ("copa", "test"): {"en": 1},
    ("xcopa", "dev"): {"it": 2},
    ("xcopa", "test"): {"it": 2},
    ("tatoeba", "test"): {"de": 6},
    ("bucc2018", "dev"): {"de": 7},
    ("bucc2018", "test"): {"de": 7},
    ("lareqa", "train"): {"en": 3},
    ("lareqa", "dev"): {"en": 1},
    ("lareqa", "test"): {"de": 3, "en": 4},
    ("mewslix", "train"): {"en": 1},
    ("mewslix", "dev"): {"de": 1, "en": 1},
    ("mewslix", "test"): {"de": 1, "en": 1},
    ("mewslix_pairs", "dev"): {"en": 1},
    ("mlm", "train"): {"de": 123, "en": 123, "fi": 193, "sw": 4},
}


@pytest.mark.parametrize(("task", "split"), EXPECTED)
def test_task_reads_its_original_files(task, split):
    there = sources.languages(get_task(task), data(), split=split)
    assert set(there) == set(EXPECTED[task, split])
    for language in there:
        loaded = load(task, language, split)
        assert len(loaded.examples) == EXPECTED[task, split][language]
        ids = [e.id for e in loaded.examples]
        assert len(set(ids)) == len(ids)
        assert loaded.files and all(Path(f).is_file() for f in loaded.files)
        kind = KIND.get(get_task(task).family, Pair if split in ("train", "dev") else Text)
        assert all(isinstance(e, kind) for e in loaded.examples) or task == "mewslix"


def test_every_split_of_every_task_has_a_fixture():
    absent = {("ccg", "test"), ("snli", "test"), ("anli", "test"), ("mlm", "dev")}
    assert set(EXPECTED) | absent == {(t.name, s) for t in catalog().values() for s in t.splits}


def test_catalog_imports_without_jax_or_loaders():
    import subprocess
    import sys

    code = (
        "import sys; from xtl.tasks import catalog; catalog(); print([m for m in ('jax', 'datasets', 'transformers', "
    )
    code += "'tensorflow_datasets', 'torch') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FIXTURES.parents[1]
    )
    assert done.stdout.strip() == "[]"


def test_tasks_are_hashable_and_declare_consistently():
    for task in catalog().values():
        hash(task)
        assert isinstance(task.files, Files | Join), task.name
        assert set(task.sizes) <= set(task.splits), task.name
        assert not task.train or task.train in catalog(), task.name
        assert not set(task.languages) & set(task.languages_r), task.name


def test_language_lists_are_those_of_the_benchmarks():
    counts = {n: len(get_task(n).languages) for n in ("xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa")}
    assert counts == {"xnli": 15, "pawsx": 7, "udpos": 33, "panx": 40, "xquad": 11, "mlqa": 7, "tydiqa": 9}
    more = {n: len(get_task(n).languages) for n in ("bucc2018", "tatoeba", "xcopa", "mewslix", "lareqa")}
    assert more == {"bucc2018": 4, "tatoeba": 36, "xcopa": 11, "mewslix": 11, "lareqa": 11}
    added = {n: len(get_task(n).languages_r) for n in ("udpos", "panx", "xquad", "tatoeba")}
    assert added == {"udpos": 5, "panx": 8, "xquad": 1, "tatoeba": 5}
    assert sum(get_task("tydiqa").sizes["train"].values()) == 49881


# ---------------------------------------------------------------- what the examples look like


def test_nli_labels_are_contradiction_entailment_neutral():
    assert [e.label for e in examples("mnli", "en", "train")] == [0, 1, 2, 1]
    assert [e.label for e in examples("xnli", "sw", "test")] == [1, 0, 2]
    assert {e.label for e in examples("anli", "en", "dev")} == {0, 1, 2}


def test_translated_training_data_loads_as_a_language_of_the_same_task():
    loaded = examples("mnli", "de", "train")
    assert [NLI[e.label] for e in loaded] == ["contradiction", "entailment"]  # spelled "contradictory" in the file
    assert len(examples("pawsx", "de", "train")) == 3


def test_mismatched_development_set_is_an_option():
    assert len(examples("mnli", "en", "dev", domain="mismatched")) == 1


def test_join_reads_all_parts_or_those_named_and_keeps_their_ids_apart():
    ids = [e.id for e in examples("anli_plus", "en", "train")]
    assert {i.split(":")[0] for i in ids} == {"snli", "mnli", "anli"}
    assert load("anli_plus", "en", "train").dropped == {"no gold label": 2}
    assert len(examples("anli_plus", "en", "train", parts=("anli",))) == 3
    with pytest.raises(XtlError, match="task anli_plus has no part 'wnli'"):
        load("anli_plus", "en", "train", parts=("wnli",))


def test_unanswerable_questions_have_no_answers():
    assert [len(e.answers) for e in examples("squad_v2", "en", "train")] == [1, 0]


def test_choice_prompts_and_choices_have_the_reference_form():
    first, second = examples("hellaswag", "en", "train")
    assert (first.prompt, first.choices[0], first.label) == ("A man throws a rope to the pier.", "ties the boat.", 0)
    assert (second.choices[3], second.label) == ("he flies off.", 3)
    cosmos = examples("cosmosqa", "en", "train")[0]
    assert cosmos.prompt.endswith("We stayed . Why did we stay ?") and cosmos.choices[1] == "It rained ."
    assert examples("copa", "en", "train")[1].prompt == "The boat sank. What was the effect?"
    assert examples("socialiqa", "en", "train")[0].prompt == "Ada lent Bo her boat. How would Bo feel?"


def test_medical_options_are_counted_from_one_in_the_original_files_and_hidden_in_the_test_set(tmp_path):
    first, second = examples("medmcqa", "en", "train")
    assert (first.prompt, first.choices[first.label]) == ("Harbour fever is carried by", "Water")
    assert (second.choices[second.label], second.label) == ("All of the above", 3)
    assert examples("medmcqa", "en", "dev")[0].label == 1
    assert examples("medmcqa", "en", "test")[0].label is None
    original = (FIXTURES / "original/medmcqa/dev.json").read_text()
    for wrong, message in (
        ('"cop": 0', r"dev\.json:1: label 0 is not one of 1, 2, 3, 4"),  # as the hub counts
        ('"cop": 5', r"label 5 is not one of 1, 2, 3, 4"),
        ('"cop": null', r"no label in split 'dev'"),
    ):
        path = tmp_path / "medmcqa/dev.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(original.replace('"cop": 2', wrong))
        with pytest.raises(XtlError, match=message):
            sources.load(get_task("medmcqa"), "en", "dev", Data(source="files", root=str(tmp_path)))


def test_biomedical_articles_can_be_cut_to_the_passage_with_the_answer():
    whole = examples("covidqa", "en", "train")
    assert whole[0].id == "262" and len({e.context for e in whole}) == 1
    for size in (1, 20, 60, 10_000):
        parts = examples("covidqa", "en", "train", passage=size)
        for e, article in zip(parts, whole, strict=True):
            ((text, start),) = e.answers
            assert e.context[start : start + len(text)] == text == article.answers[0][0]
            assert e.context in article.context and e.question == article.question
            assert len(e.context) <= size + len(text) + 2 * max(map(len, article.context.split()))
            assert not e.context.endswith(" ") and f"{e.context} " in f"{article.context} "  # no word is cut
    assert parts == whole  # longer than the article
    with pytest.raises(XtlError, match=r"covidqa\.passage must be a number of characters, or 0, not -1"):
        examples("covidqa", "en", "train", passage=-1)


def test_where_a_passage_is_cut_says_nothing_about_where_its_answer_is():
    """Passages lie on a grid: questions whose answers are in one stretch of the article share one passage."""
    from xtl.tasks.covidqa import passage

    words = " ".join(f"w{i:03}" for i in range(400))
    cut = {passage(Span("q", "?", words, ((f"w{i:03}", 5 * i),)), 500).context for i in range(400)}
    assert len(cut) == 4 and all(490 <= len(c) <= 510 for c in cut)


def test_fused_words_carry_the_tag_of_their_head_part():
    one, two = examples("udpos", "de", "test")
    assert one.words == ("Sie", "ging", "im", "Regen", "zum", "Steg", ".")
    assert [UPOS[t] for t in one.tags] == ["PRON", "VERB", "ADP", "NOUN", "ADP", "NOUN", "PUNCT"]
    assert two.words == ("Holmer", "1000", "Lampen")  # treebanks in file-name order; inner spaces and joiners gone
    spanish = examples("udpos", "es", "test")[0]
    assert spanish.words == ("dámelo", "del", "muelle")
    assert [UPOS[t] for t in spanish.tags] == ["VERB", "ADP", "NOUN"]


def test_plain_form_keeps_syntactic_words():
    words = list(examples("udpos", "de", "test", fusion=False)[0].words)
    assert words == ["Sie", "ging", "in", "dem", "Regen", "zu", "dem", "Steg", "."]


def test_withheld_sentences_are_dropped_and_counted():
    assert load("udpos", "de", "test").dropped == {"words withheld by the treebank": 1}


def test_supertags_come_from_the_users_tag_file():
    assert examples("ccg", "en", "train")[0].tags == (0, 1, 2)


def test_tatoeba_queries_are_sorted_and_the_pool_is_not():
    loaded = load("tatoeba", "de", "test")
    queries = [e for e in loaded.examples if e.side == "query"]
    assert [q.text for q in queries] == ["Ada builds the pier.", "The boat sleeps.", "Two lamps are lit."]
    assert next(e.text for e in loaded.examples if e.side == "pool") == "Das Boot schläft."
    assert loaded.gold == [("eng-2", "deu-2"), ("eng-0", "deu-0"), ("eng-1", "deu-1")]


def test_bucc_has_both_corpora_with_distractors_and_gold():
    loaded = load("bucc2018", "de", "dev")
    assert sum(e.side == "query" for e in loaded.examples) == 3
    assert sum(e.side == "pool" for e in loaded.examples) == 4
    assert loaded.gold == [("de-000000001", "en-000000002"), ("de-000000002", "en-000000003")]


def test_lareqa_joins_a_question_to_its_sentence_in_every_language():
    loaded = load("lareqa", "en", "test")
    assert loaded.gold == [("en:x1", "de:0-1"), ("en:x1", "en:0-1")]
    pool = {e.id: e.text for e in loaded.examples if e.side == "pool"}
    assert pool["en:0-1"].startswith("It has two lamps.The pier at Holm")
    assert load("lareqa", "de", "test").gold == [("de:x1", "de:0-1"), ("de:x1", "en:0-1")]


def test_mewslix_marks_the_mention_and_joins_it_to_its_entity():
    loaded = load("mewslix", "de", "test")
    query = next(e for e in loaded.examples if e.side == "query")
    assert query.text == "Krog: { Krog } opened the (new) pier."
    assert loaded.gold == [("n1", "Q1")]
    assert [e.id for e in examples("mewslix", "entities", "test") if e.side == "pool"] == ["Q1", "Q2"]
    pair = examples("mewslix", "en", "train")[0]
    assert pair.b == "Ada Krog was a builder of piers."


@pytest.mark.parametrize(("below", "inside"), [("panx_dataset/", ""), ("", "./"), ("panx_dataset/", "en/")])
def test_panx_is_read_from_the_archives_of_its_distribution(tmp_path, below, inside):
    root = panx_archives(tmp_path, below, inside)
    there = Data(source="files", root=str(root))
    panx = get_task("panx")
    assert sources.languages(panx, there) == ("en",)
    for split in ("train", "dev", "test"):
        packed, unpacked = sources.load(panx, "en", split, there), load("panx", "en", split)
        assert packed.examples == unpacked.examples
        assert packed.files == (str(root / f"panx/{below}en.tar.gz"),)


def test_panx_archive_that_is_cut_off_or_lacks_a_split_is_one_line(tmp_path):
    root = panx_archives(tmp_path, "", "", splits=("dev", "extra", "test"))
    archive = root / "panx/en.tar.gz"
    there = Data(source="files", root=str(root))

    def error(split):
        with pytest.raises(XtlError) as caught:
            sources.load(get_task("panx"), "en", split, there)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert error("train") == f"{archive}: no file 'train' in the archive, only: dev, extra, test"
    whole = archive.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        archive.write_bytes(whole[:length])
        assert error("test").startswith(f"{archive}/test: the archive is damaged or truncated (")
    archive.write_bytes(b"<html>not found</html>")
    assert "test: the archive is damaged or truncated (" in error("test")


def panx_archives(root, below, inside, splits=("train", "dev", "extra", "test")):
    """A data root with the English fixture packed as the distribution packs it."""
    import tarfile

    archive = root / f"panx/{below}en.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        for split in splits:
            original = FIXTURES / "original/panx/panx_dataset/en" / split.replace("extra", "train")
            tar.add(original, f"{inside}{split}")
    return root


def test_mlm_holds_the_same_verses_out_in_every_language():
    held = {x: {e.id.split(":")[1] for e in examples("mlm", x, "dev") if "TST" in e.id} for x in ("de", "en")}
    assert held["de"] == held["en"] != set()


# ---------------------------------------------------------------- traps of the data (docs/data.md)


def test_trap_15_1_nli_label_order_of_hub_copies():
    from xtl.data.sources.formats.examples import Labels

    hub = Labels("mnli", NLI, order=("entailment", "neutral", "contradiction"))
    assert [NLI[hub.index(i, "row")] for i in (0, 1, 2)] == ["entailment", "neutral", "contradiction"]


def test_trap_15_3_stripped_contexts_shift_answers():
    from collections import Counter

    from xtl.data.sources.formats.base import Place
    from xtl.data.sources.formats.examples import flat_span

    context = "  Gati la Holm lilijengwa mwaka 1901."
    stripped = {
        "id": "s",
        "question": "Lini?",
        "context": context.strip(),
        "answers": {"text": ["1901"], "answer_start": [context.index("1901")]},
    }
    at = Place("row 0", 0, "sw", "dev", Counter())
    question = flat_span(stripped, at)
    text, start = question.answers[0]
    assert question.context[start : start + len(text)] == "1901"
    assert at.dropped == {"answer offset repaired": 1}
    original = examples("tydiqa", "sw", "dev")[0]
    assert original.context.startswith("  ") and original.context[original.answers[0][1] :].startswith("1901")


def test_trap_15_4_gold_only_bucc_is_not_mistaken_for_the_task():
    with pytest.raises(XtlError, match=r"task bucc2018: no dev files for 'de': .* xtreme/de-en\.dev\.de"):
        load("bucc2018", "de", "dev", copy="xtreme")


def test_trap_15_6_pawsx_rows_with_quotation_marks_are_all_there_in_both_dialects():
    original, xtreme = examples("pawsx", "en", "dev"), examples("pawsx", "en", "dev", copy="xtreme")
    assert [(e.a, e.b, e.label) for e in original] == [(e.a, e.b, e.label) for e in xtreme]
    assert original[2].a == 'The mayor said : "wait .'


def test_trap_15_7_test_files_without_labels_load_as_hidden():
    assert [e.label for e in examples("pawsx", "en", "test", copy="xtreme")] == [None] * 3
    assert examples("panx", "sw", "test", copy="xtreme")[0] == Tagged("0", ("Ada", "Krog"), None)
    assert examples("udpos", "de", "test", copy="xtreme")[0].tags is None
    assert examples("tydiqa", "sw", "test", copy="xtreme")[0].answers is None
    assert examples("mnli", "en", "test")[0].label is None


def test_trap_15_7_xnli_labels_can_be_put_beside_xtremes_test_files():
    assert [NLI[e.label] for e in examples("xnli", "sw", "test", copy="xtreme")] == ["contradiction", "neutral"]


def test_trap_15_8_both_names_of_the_tydiqa_training_file_are_known():
    assert len(examples("tydiqa", "en", "train", copy="original")) == 2
    assert len(examples("tydiqa", "en", "train", copy="xtreme")) == 2


def test_trap_15_9_tydiqa_english_is_english_only():
    assert [e.id for e in examples("tydiqa", "en", "train")] == ["english-77-0", "english-77-1"]


def test_trap_15_10_answer_positions_point_at_the_answers_pieces():
    import tokenizers

    from xtl.data.tokenizer import Tokenizer
    from xtl.families.span import FAMILY as span

    text = "The pier at Holm was built in 1901 by Ada Krog . It has two lamps died 1933 ? When Who How many does"
    names = ["<s>", "<pad>", "</s>", "<unk>", *dict.fromkeys(text.split()), "<mask>"]
    rust = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>")
    )
    rust.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    questions = examples("squad_v1", "en", "train")
    encoded = span.encode(get_task("squad_v1"), questions, Tokenizer(rust), max_length=64, train=True)
    for i, e in enumerate(questions):  # XLM-R pairs have two separators in the middle; counting one shifts every answer
        start, end = (int(encoded.segment_columns[x][i]) for x in ("start", "end"))
        ids = encoded.ids[encoded.tokens(i)][start : end + 1]
        assert [names[j] for j in ids] == e.answers[0][0].split()


def test_trap_15_11_pawsx_has_no_arabic():
    with pytest.raises(XtlError, match=r"task pawsx has no language 'ar'"):
        load("pawsx", "ar", "test")


def test_trap_15_12_answers_in_scripts_without_spaces_have_character_offsets():
    for task, language, split in (("mlqa", "zh", "test"), ("xquad", "th", "test"), ("mlqa", "de", "test")):
        for e in examples(task, language, split):
            text, start = e.answers[0]
            assert e.context[start : start + len(text)] == text


def test_trap_15_13_labels_may_be_strings_numbers_letters_or_absent():
    assert examples("socialiqa", "en", "dev")[0].label == 2  # "C"
    assert [e.label for e in examples("socialiqa", "en", "train")] == [0, 2]  # "1", "3"
    assert examples("hellaswag", "en", "test")[0].label is None
    assert examples("cosmosqa", "en", "test")[0].label is None


def test_trap_15_14_xcopa_has_no_english():
    with pytest.raises(XtlError, match=r"task xcopa has no language 'en'"):
        load("xcopa", "en", "test")
    assert get_task("xcopa").train == "copa"


def test_trap_glue_columns_are_taken_by_name_and_pair_ids_are_not_labels():
    assert [NLI[e.label] for e in examples("mnli", "en", "dev")] == ["entailment", "contradiction"]


def test_trap_snli_label_is_the_last_column_of_longer_rows():
    assert [NLI[e.label] for e in examples("snli", "en", "train")] == ["contradiction", "entailment"]


def test_trap_rows_without_gold_label_are_dropped_and_counted():
    assert load("mnli", "en", "train").dropped == {"no gold label": 1}
    assert load("snli", "en", "train").dropped == {"no gold label": 1}
    assert load("qqp", "en", "train").dropped == {"no label": 1}


def test_trap_tydiqa_ids_repeat_in_xtremes_training_files():
    loaded = load("tydiqa", "en", "train", copy="xtreme")
    assert [e.id for e in loaded.examples] == ["0", "0#2"]
    assert loaded.dropped == {"repeated id numbered": 1}


def test_trap_xtreme_files_come_first_where_they_are_labelled():
    assert examples("udpos", "en", "train", copy="xtreme")[0].words == ("Boats", "don't", "sleep")
    assert "xtreme" in load("panx", "sw", "dev", copy="xtreme").files[0]


def test_trap_quotation_marks_of_originals_are_text():
    assert examples("xnli", "en", "dev")[0].a == 'The letter came "yesterday.'
    assert examples("xnli", "en", "dev", copy="xtreme")[0].a == 'He wrote "The Pier" in 1901.'
