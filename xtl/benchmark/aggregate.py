"""Which tasks and languages XTREME and XTREME-R hold, and their averages (google-research/xtreme evaluate.py)."""

from collections.abc import Mapping
from dataclasses import dataclass

from xtl.errors import XtlError, nearest

Scores = Mapping[str, Mapping[str, float]]  # language -> metric -> 0..100


@dataclass(frozen=True)
class Benchmark:
    name: str
    languages: Mapping[str, tuple[str, ...]]  # task -> languages; all of them make the task's score
    groups: Mapping[str, tuple[str, ...]]  # group -> tasks

    def languages_of(self, task: str) -> tuple[str, ...]:
        """The languages of a task. XtlError where it is not part of the benchmark."""
        if task not in self.languages:
            raise XtlError(f"task {task} is not part of {self.name} ({', '.join(self.languages)})")
        return self.languages[task]


def _languages(**codes: str) -> dict[str, tuple[str, ...]]:
    return {task: tuple(words.split()) for task, words in codes.items()}


XTREME = Benchmark(
    name="xtreme",
    languages=_languages(
        xnli="ar bg de el en es fr hi ru sw th tr ur vi zh",
        pawsx="de en es fr ja ko zh",
        udpos="af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh",
        panx="af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl"
        " tr ur vi yo zh",
        xquad="ar de el en es hi ru th tr vi zh",
        mlqa="ar de en es hi vi zh",
        tydiqa="ar bn en fi id ko ru sw te",
        bucc2018="de fr ru zh",
        tatoeba="af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr nl pt ru sw ta te th tl tr ur"
        " vi zh",
    ),
    groups={
        "classification": ("xnli", "pawsx"),
        "tagging": ("udpos", "panx"),
        "qa": ("xquad", "mlqa", "tydiqa"),
        "retrieval": ("bucc2018", "tatoeba"),
    },
)

# LAReQA has no scored form in the reference, so that its XTREME-R overall never appears and its retrieval group lacks
# it. Here it is scored from rankings of its pool; the reference's group keeps its meaning, the wider one has a name of
# its own.
XTREME_R = Benchmark(
    name="xtreme-r",
    languages={
        **{task: XTREME.languages[task] for task in ("xnli", "mlqa", "tydiqa")},
        **{
            task: XTREME.languages[task] + added
            for task, added in _languages(
                udpos="lt pl uk wo ro", panx="qu pl uk az lt pa gu ro", xquad="ro", tatoeba="az lt pl uk ro"
            ).items()
        },
        **_languages(
            xcopa="et ht id it qu sw ta th tr vi zh",
            mewslix="ar de en es fa ja pl ro ta tr uk",
            lareqa="ar de el en es hi ru th tr vi zh",
        ),
    },
    groups={
        "classification": ("xnli", "xcopa"),
        "multi_choice": ("xcopa",),
        "tagging": ("udpos", "panx"),
        "qa": ("xquad", "mlqa", "tydiqa"),
        "retrieval": ("tatoeba", "mewslix"),
        "retrieval_with_lareqa": ("tatoeba", "mewslix", "lareqa"),
    },
)

BENCHMARKS = {benchmark.name: benchmark for benchmark in (XTREME, XTREME_R)}

# The key of the score that stands for a task. QA takes the mean of EM and F1; papers usually print F1 / EM.
MAIN_METRIC = {
    "xnli": "accuracy",
    "pawsx": "accuracy",
    "xcopa": "accuracy",
    "udpos": "f1",
    "panx": "f1",
    "xquad": "em_f1",
    "mlqa": "em_f1",
    "tydiqa": "em_f1",
    "bucc2018": "f1",
    "tatoeba": "accuracy",
    "mewslix": "map20",
    "lareqa": "map20",
}


def get_benchmark(name: str) -> Benchmark:
    """The benchmark "xtreme" or "xtreme-r"."""
    if name not in BENCHMARKS:
        raise XtlError(f"unknown benchmark {name!r}.{nearest(name, BENCHMARKS)}")
    return BENCHMARKS[name]


def task_averages(task: str, scores: Scores, *, languages: tuple[str, ...] = ()) -> dict[str, float]:
    """Mean over languages of every metric; `n` becomes the sum. English counts like any other language.

    XtlError if one of `languages` is missing. LAReQA is a mean over all questions of all languages, so there languages
    weigh by their `n`, which must then be present.
    """
    missing = [language for language in languages if language not in scores]
    if missing:
        raise XtlError(f"{task}: no scores for {', '.join(missing)}; its average needs all {len(languages)} languages")
    if not scores:
        raise XtlError(f"{task}: no language has scores")
    metrics = set.intersection(*(set(values) for values in scores.values()))
    counts = [values.get("n", 1) for values in scores.values()]
    weights = counts if task == "lareqa" else [1] * len(scores)
    averages = {
        metric: sum(weight * values[metric] for weight, values in zip(weights, scores.values(), strict=True))
        / sum(weights)
        for metric in sorted(metrics - {"n"})
    }
    return averages | ({"n": sum(counts)} if "n" in metrics else {})


def overall(task_scores: Mapping[str, float], benchmark: str = "xtreme") -> dict[str, float]:
    """Group means, and `overall` over all tasks, from the tasks' main scores; what lacks a task is left out."""
    definition = get_benchmark(benchmark)
    groups = {**definition.groups, "overall": tuple(definition.languages)}
    return {
        group: sum(task_scores[task] for task in tasks) / len(tasks)
        for group, tasks in groups.items()
        if all(task in task_scores for task in tasks)
    }
