"""XTREME and XTREME-R: tasks, languages, averages."""

import pytest

from xtl.benchmark.aggregate import MAIN_METRIC, XTREME, XTREME_R, overall, task_averages
from xtl.errors import XtlError
from xtl.tasks import catalog


def test_the_benchmarks_have_their_published_numbers_of_languages():
    sizes = {task: len(codes) for task, codes in XTREME.languages.items()}
    assert sizes == {
        "xnli": 15,
        "pawsx": 7,
        "udpos": 33,
        "panx": 40,
        "xquad": 11,
        "mlqa": 7,
        "tydiqa": 9,
        "bucc2018": 4,
        "tatoeba": 36,
    }
    sizes = {task: len(codes) for task, codes in XTREME_R.languages.items()}
    assert sizes == {
        "xnli": 15,
        "xcopa": 11,
        "udpos": 38,
        "panx": 48,
        "xquad": 12,
        "mlqa": 7,
        "tydiqa": 9,
        "tatoeba": 41,
        "mewslix": 11,
        "lareqa": 11,
    }


def test_languages_are_not_repeated_and_tatoeba_lacks_en_ms_my_yo():
    for benchmark in (XTREME, XTREME_R):
        for codes in benchmark.languages.values():
            assert len(set(codes)) == len(codes)
    assert set(XTREME.languages["panx"]) - set(XTREME.languages["tatoeba"]) == {"en", "ms", "my", "yo"}


def test_every_task_of_a_benchmark_has_a_main_metric_and_a_group():
    for benchmark in (XTREME, XTREME_R):
        assert set(benchmark.languages) == {task for tasks in benchmark.groups.values() for task in tasks}
        assert set(benchmark.languages) <= set(MAIN_METRIC)


def test_the_catalogue_agrees_with_the_benchmarks():
    for benchmark in (XTREME, XTREME_R):
        for name, task in catalog().items():
            if benchmark.name in task.benchmarks:
                added = task.languages_r if benchmark is XTREME_R else ()
                assert set(task.languages) | set(added) >= set(benchmark.languages[name]), (benchmark.name, name)


def test_a_task_average_is_the_mean_over_languages_english_included():
    scores = {"en": {"em": 80.0, "f1": 90.0, "n": 10}, "de": {"em": 40.0, "f1": 60.0, "n": 30}}
    assert task_averages("xquad", scores) == {"em": 60.0, "f1": 75.0, "n": 40}


def test_the_qa_score_is_the_mean_of_mean_em_and_mean_f1():
    scores = {"en": {"em": 80.0, "f1": 90.0, "em_f1": 85.0}, "de": {"em": 40.0, "f1": 60.0, "em_f1": 50.0}}
    averages = task_averages("mlqa", scores)
    assert averages[MAIN_METRIC["mlqa"]] == (averages["em"] + averages["f1"]) / 2 == 67.5


def test_lareqa_is_a_mean_over_questions():
    scores = {"en": {"map20": 80.0, "n": 3}, "th": {"map20": 40.0, "n": 1}}
    assert task_averages("lareqa", scores)["map20"] == 70.0


def test_a_missing_language_is_named():
    with pytest.raises(XtlError, match="xquad: no scores for de, ru; its average needs all 3"):
        task_averages("xquad", {"en": {"f1": 1.0}}, languages=("en", "de", "ru"))


def test_group_and_overall_averages_weigh_tasks_equally():
    scores = {task: float(10 * i) for i, task in enumerate(XTREME.languages)}
    averages = overall(scores)
    assert averages["overall"] == 40.0
    assert averages["classification"] == 5.0  # xnli 0, pawsx 10
    assert averages["tagging"] == 25.0
    assert averages["qa"] == 50.0
    assert averages["retrieval"] == 75.0


def test_what_lacks_a_task_has_no_average():
    assert overall({"xnli": 80.0, "pawsx": 90.0}) == {"classification": 85.0}
    assert overall({}) == {}


def test_xtreme_r_keeps_the_reference_groups_and_has_an_overall_with_lareqa():
    scores = dict.fromkeys(XTREME_R.languages, 50.0) | {"lareqa": 20.0, "xcopa": 80.0}
    averages = overall(scores, "xtreme-r")
    assert averages["overall"] == 50.0
    assert averages["retrieval"] == 50.0 and averages["retrieval_with_lareqa"] == 40.0
    assert averages["classification"] == 65.0 and averages["multi_choice"] == 80.0


def test_an_unknown_benchmark_is_answered_with_the_near_name():
    with pytest.raises(XtlError, match="Did you mean 'xtreme'"):
        overall({}, "xtrem")
