"""COVID-QA: questions of biomedical experts, answered by a span of a scientific article on COVID-19. English.

SQuAD's JSON, in one file and without a split for development or testing: it is an intermediate task, trained for a
fixed time. The hub's copy numbers its questions and strips the articles, so offsets are repaired.

A context is a whole article, thousands of words, and becomes some dozens of windows, nearly all of them without the
answer. The data option `passage` (0: whole articles) keeps a passage of about so many characters that has the answer.
"""

from dataclasses import replace
from typing import Any

from xtl.data.sources.formats import squad
from xtl.data.sources.formats.base import At, Files, Rows, SplitFiles
from xtl.data.sources.formats.examples import flat_span
from xtl.data.sources.formats.tables import Request, Table, Tables, by_example
from xtl.errors import XtlError
from xtl.task import Loaded, Span, Task

OPTIONS = {"passage": 0}


def passage(example: Span, size: int) -> Span:
    """The question on the passage of its article that has its (first) answer.

    Articles are cut every `size` characters, at the next white space, and not around answers, whose place in the
    passage would give them away. A passage that would end inside the answer is as much longer.
    """
    context = example.context
    text, start = example.answers[0] if example.answers else ("", 0)
    begin, stop = start - start % size, max(start - start % size + size, start + len(text))
    while begin > 0 and not context[begin - 1].isspace():
        begin -= 1
    while stop < len(context) and not context[stop].isspace():
        stop += 1
    answers = example.answers and tuple((t, s - begin) for t, s in example.answers if begin <= s <= stop - len(t))
    return replace(example, context=context[begin:stop], answers=answers)


def cut(loaded: Loaded, size: Any) -> Loaded:
    """The same questions on passages of about `size` characters."""
    if not isinstance(size, int) or size < 0:
        raise XtlError(f"data.options.covidqa.passage must be a number of characters, or 0, not {size!r}")
    if size:
        loaded.examples = [passage(e, size) for e in loaded.examples if isinstance(e, Span)]
    return loaded


def read(files: SplitFiles) -> Loaded:
    return cut(squad.read()(files), files.options["passage"])


def read_table(rows: Rows, request: Request) -> Loaded:
    return cut(by_example(flat_span)(rows, request), request.options["passage"])


TASK = Task(
    name="covidqa",
    family="span",
    about="COVID-QA: questions answered by a span of a biomedical article, training data only",
    languages=("en",),
    splits=("train",),
    metric="em_f1",
    max_length=384,
    sizes={"train": 2019},
    files=Files(
        task="covidqa",
        options=OPTIONS,
        at=(At(paths=("COVID-QA.json",), splits={"train": "train"}, read=read),),
        get="Put COVID-QA.json of github.com/deepset-ai/COVID-QA (data/question-answering/) into covidqa/",
    ),
    hub=Tables(
        task="covidqa",
        options=OPTIONS,
        at=(
            Table(
                name="deepset/covid_qa_deepset",
                config="covid_qa_deepset",
                splits={"train": "train"},
                read=read_table,
            ),
        ),
    ),
    options={"world": "span"},
    licence="Apache 2.0",
)
