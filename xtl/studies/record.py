"""What a run studies: noted in WORKDIR/studies when it begins, read when its report is written.

A pipeline config with study={"name": one of NAMES, ...parameters} is a study. This module loads nothing heavy, so that
`xtl run` can refuse a faulty study at once.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from xtl import files
from xtl.config.fingerprint import digest
from xtl.config.schema import plain
from xtl.errors import XtlError, nearest
from xtl.families import family
from xtl.runs.workdir import Workdir
from xtl.tasks import get_task

NAMES = ("typology", "multilingual", "divergence", "morphology", "domain")


def record(workdir: Workdir, pipeline: str, config: ConfigDict) -> None:
    """Note in WORKDIR/studies/<pipeline>.json what a pipeline config says it studies; nothing if it is no study.

    XtlError for an unknown study, or one whose stages cannot be compared.
    """
    study = plain(config.get("study") or {})
    if not study:
        return
    name = study.get("name")
    if name not in NAMES:
        raise XtlError(f"config.study.name: there is no study {name!r}.{nearest(str(name), NAMES)}")
    if name == "morphology":
        retrieval = {
            f"{stage_name} ({task})": plain(entry["options"])
            for stage_name, stage in config.stages.items()
            for task, entry in stage.evaluate.items()
            if family(get_task(task)).english_pool
        }
        one_layer(retrieval)
    files.write_json(workdir.path / "studies" / f"{pipeline}.json", study)


def recorded(workdir: Workdir) -> dict[str, dict[str, Any]]:
    """The studies of WORKDIR: pipeline -> the study section of its config."""
    pipelines = dict.fromkeys(entry["pipeline"] for entry in workdir.read_plan())
    paths = {name: workdir.path / "studies" / f"{name}.json" for name in pipelines}
    return {name: files.read_json(path) for name, path in paths.items() if path.exists()}


def kept(workdir: Workdir, name: str, key: Any, measure: Callable[[], Any]) -> Any:
    """What `measure` returns (JSON), kept in WORKDIR/studies/<name>.json; measured again only when `key` changes."""
    path, fingerprint = workdir.path / "studies" / f"{name}.json", digest(key)
    if not path.exists() or files.read_json(path)["key"] != fingerprint:
        files.write_json(path, {"key": fingerprint, "rows": measure()})
    return files.read_json(path)["rows"]


def one_layer(options: Mapping[str, Mapping[str, Any]]) -> tuple[int, str]:
    """(layer, pooling) of the retrieval of every condition. `options`: stage -> its evaluation options.

    XtlError unless all stages name a layer and it is the same one: with the best layer of each condition one would
    compare layers, which reverses conclusions.
    """
    first = ""
    for name, own in options.items():
        if "layer" not in own:
            raise XtlError(f"stage {name}: retrieval names no layer; give options.layer, one for all conditions")
        if first and any(own.get(key) != options[first].get(key) for key in ("layer", "pooling", "centre")):
            raise XtlError(
                f"stages {first} and {name} retrieve with different vectors ({dict(options[first])}, {dict(own)}): "
                "choose one layer and pooling for all conditions, beforehand"
            )
        first = first or name
    return options[first]["layer"], options[first].get("pooling", "mean")
