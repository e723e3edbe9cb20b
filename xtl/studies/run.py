"""From a finished run to the answer of its study."""

from collections.abc import Callable

from xtl.runs.workdir import Workdir
from xtl.studies import divergence, domain, morphology, multilingual, typology
from xtl.studies.analysis import Analysis
from xtl.studies.finished import Finished, read_finished, setting_in_words
from xtl.studies.record import recorded

ANALYSES: dict[str, Callable[[Finished], Analysis]] = {
    "typology": typology.study,
    "multilingual": multilingual.study,
    "divergence": divergence.study,
    "morphology": morphology.study,
    "domain": domain.study,
}


def analyse(workdir: Workdir, pipeline: str) -> Analysis:
    """The answer of a recorded study from what is done now. XtlError says what is still missing for it."""
    settings = recorded(workdir)[pipeline]
    finished = read_finished(workdir, pipeline, settings)
    analysis = ANALYSES[settings["name"]](finished)
    analysis.methods = f"{setting_in_words(finished)} {analysis.methods}"
    if finished.unlabelled:
        analysis.limits.append(f"{finished.unlabelled} scores are missing, because the test data has no labels.")
    if (seeds := finished.scores["seed"].nunique()) < 3:
        analysis.limits.append(f"Only {seeds} seed(s): differences between conditions carry its noise.")
    if finished.data.source == "world":
        analysis.limits.append("The languages are synthetic: the result holds for the world, not for real languages.")
    return analysis
