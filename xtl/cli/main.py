"""The command line: `xtl VERB --config=FILE.py[:key=value,...] [--config.a.b=v ...] [--flag=value ...]`.

A verb is one function in xtl/cli/verbs/, imported when it is called, so that help and mistakes answer at once. Flags
exist only here: a verb receives plain arguments, and the library below knows of none.
"""

import glob
import importlib
import importlib.util
import json
import os
import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from xtl import __version__
from xtl.errors import XtlError, nearest

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143  # the last two: 128 + signal, as shells do


@dataclass(frozen=True)
class Flag:
    """One flag of a verb; the type of the default is the type of the flag."""

    name: str
    default: Any
    value: str  # what stands for the value in help, e.g. "DIR"
    about: str
    required: bool = False


JSON = Flag("json", "", "FILE", "write the report as JSON, too (- for standard output)")
LANGUAGES = Flag("languages", (), "a,b", "only these languages")


@dataclass(frozen=True)
class Verb:
    """One verb: the function that does it, and what help says."""

    function: str  # module:function; function(args) -> exit status, or None for success
    about: str
    example: str
    flags: Sequence[Flag] = ()
    config: str = "none"  # none | optional (only --config.a.b=v) | required
    more: str = ""


VERBS: Mapping[str, Verb] = {
    "run": Verb(
        "xtl.cli.verbs.run:run",
        "run the pipeline of a config; skip what is done, resume what was cut off",
        "xtl run --config=configs/demo.py --workdir=runs/demo",
        (
            Flag("workdir", "", "DIR", "where the run lives (default: runs/NAME of the pipeline)"),
            Flag("stage", (), "NAME,...", "only these stages, and what they start from"),
            Flag("track", (), "NAME,...", "hand all numbers to tensorboard, wandb, too (if installed)"),
            Flag("profile", "", "FIRST:LAST", "trace these steps of each stage for xprof, into the stage's profile/"),
            JSON,
        ),
        "required",
        "Ends with the results table and the report. Any number of launches may share one WORKDIR: each stage is\n"
        "trained by one of them, and equal stages of several pipelines are trained once. Exit status 0 only if every\n"
        "stage is done; the same command goes on where it stopped.",
    ),
    "plan": Verb(
        "xtl.cli.verbs.plan:plan",
        "print the graph: what is done, what is shared, what it costs; run nothing",
        "xtl plan --config=configs/demo.py --topology=v5e:4x4 --price=1.20",
        (
            Flag("workdir", "", "DIR", "the run to compare with (default: runs/NAME of the pipeline)"),
            Flag("count", False, "", "count the tokenised data (builds the token cache) instead of estimating"),
            Flag("look", True, "", "--nolook: touch no data; languages and sizes are the catalog's"),
            Flag("topology", "", "SLICE", "also chip-hours on this slice: v5e:4x4, v5e-16, 2*v5e:4x4, h100:8"),
            Flag("mfu", 0.4, "SHARE", "model FLOPs utilisation assumed for chip-hours"),
            Flag("price", 0.0, "PRICE", "of one chip-hour, for the cost"),
            Flag("watch", False, "", "show a run in this WORKDIR live, as it goes on in other launches"),
            Flag("emit", "", "ENGINE", "slurm or argo: print the graph for that engine instead"),
            Flag("image", "", "IMAGE", "container image of the stages (argo)"),
            Flag("queue", "", "NAME", "Kueue's local queue (argo)"),
            JSON,
        ),
        "required",
        "--emit prints a script for Slurm (sh submit.sh [sbatch options]) or an Argo Workflow of JobSets (kubectl\n"
        "create -f -); each job runs `xtl run --stage=NAME`. --watch attaches to a run: Ctrl-C leaves it alone.",
    ),
    "eval": Verb(
        "xtl.cli.verbs.eval:evaluate",
        "evaluate a checkpoint on a task, in any languages",
        "xtl eval --checkpoint=runs/demo/stages/none-xnli-0a1b2c3d --task=xnli --languages=en,qna",
        (
            Flag("checkpoint", "", "DIR", "folder of a stage, a checkpoint, an encoder or a model", required=True),
            Flag("task", "", "NAME", "see `xtl tasks`", required=True),
            LANGUAGES,
            Flag("split", "", "SPLIT", "test if the task has it, else dev"),
            Flag("out", "", "DIR", "keep eval/ and predictions/ there"),
            JSON,
        ),
        "optional",
        "Data and tokenizer are those of the stage that trained the checkpoint; --config.data.root=DIR and the like\n"
        "change them.",
    ),
    "report": Verb(
        "xtl.cli.verbs.report:report",
        "rebuild the tables and the report from the results",
        "xtl report --workdir=runs/demo",
        (Flag("workdir", "", "DIR", "the run to report on", required=True), JSON),
    ),
    "submit": Verb(
        "xtl.cli.verbs.submission:submit",
        "write and validate the benchmark's predictions folder",
        "xtl submit --workdir=runs/paper --out=predictions",
        (
            Flag("workdir", "", "DIR", "the run whose predictions to take", required=True),
            Flag("out", "", "DIR", "the folder to write", required=True),
            Flag("intermediate", "none", "NAME", "row of the results table; xnli:mnli,mlqa:squad_v1,... by task"),
            Flag("seed", 0, "N", "of the stages to take"),
            Flag("benchmark", "xtreme", "NAME", "xtreme or xtreme-r"),
            Flag("labels", "", "DIR", "validate against these labels, too"),
            JSON,
        ),
    ),
    "score": Verb(
        "xtl.cli.verbs.submission:score",
        "score any predictions folder against a labels folder",
        "xtl score --predictions=predictions --labels=labels --benchmark=xtreme",
        (
            Flag("predictions", "", "DIR", "TASK/test-LANGUAGE.tsv|json|jsonl", required=True),
            Flag("labels", "", "DIR", "the same names", required=True),
            Flag("benchmark", "xtreme", "NAME", "xtreme or xtreme-r"),
            JSON,
        ),
    ),
    "import": Verb(
        "xtl.cli.verbs.convert:import_",
        "Hugging Face folder or hub id -> xtl encoder",
        "xtl import --model=FacebookAI/xlm-roberta-base --out=models/base",
        (
            Flag("model", "", "DIR|ID", "folder with safetensors, or hub id", required=True),
            Flag("out", "", "DIR", "the folder to write", required=True),
            Flag("task", "", "NAME", "the model is fine-tuned: take its head along as that of this task"),
            Flag(
                "labels", (), "a,b", "the task's labels in the model's order, where its config.json does not name them"
            ),
        ),
        more="With --task the outputs of the head are put in the order of the task's labels, by the names that the\n"
        "model's config.json gives them. `xtl eval` takes the result, as does a stage's start. See docs/models.md.",
    ),
    "export": Verb(
        "xtl.cli.verbs.convert:export",
        "xtl checkpoint -> Hugging Face folder",
        "xtl export --checkpoint=runs/demo/stages/mlm-0a1b2c3d --out=models/mlm",
        (
            Flag("checkpoint", "", "DIR", "a stage's folder, a checkpoint, or an imported encoder", required=True),
            Flag("out", "", "DIR", "the folder to write", required=True),
            Flag("head", "", "NAME", "the head to write with it (default: the one that transformers knows; or none)"),
            Flag("tokenizer", "", "DIR", "copy the tokenizer files of this folder along"),
        ),
        more="Classification and choice heads have a counterpart in transformers when trained with the option\n"
        "head=hf; retrieval heads have none. See docs/models.md.",
    ),
    "compile": Verb(
        "xtl.cli.verbs.compile:compile_",
        "compile every step of a config for a TPU slice, with no TPU: memory, traffic, predicted time and MFU",
        "xtl compile --config=configs/bench.py:size=large --topology=v5e:4x4",
        (
            Flag("topology", "", "SLICE", "such as v5e:4x4, v5e-16 or v5p:2x2x2; several: 2*v5e:4x4", required=True),
            Flag("stage", (), "NAME,...", "only the steps of these stages"),
            Flag("steps", "", "KIND", "only train or only eval"),
            Flag("rows", 0, "N", "rows on each device, in place of the config's batch size"),
            Flag("tune", False, "", "search for the fastest way to run that fits, and print it as config overrides"),
            Flag("cache", "~/.cache/xtl/compile", "DIR", "where --tune keeps what it has compiled"),
            JSON,
        ),
        "required",
        "Needs the TPU compiler (pip install 'xtl[tpu]') and no data. Times are predicted from the compiler's own\n"
        "cycle estimates; the model and its limits are printed below the table.",
    ),
    "tasks": Verb(
        "xtl.cli.verbs.tasks:tasks",
        "list the tasks: sources, languages, head, metric, sizes",
        "xtl tasks",
        (Flag("task", "", "NAME", "everything about one task"), JSON),
    ),
    "data": Verb(
        "xtl.cli.verbs.data:data",
        "data doctor: counts, labels, offsets, languages, against the manifest",
        "xtl data --task=all --config.data.root=DIR",
        (
            Flag("task", "all", "NAME,...", "the tasks to look at"),
            Flag("pack", "", "DIR", "copy what they (or a pipeline, --config=FILE.py) read into this folder instead"),
            JSON,
        ),
        "optional",
    ),
}


class Arguments(SimpleNamespace):
    """What a verb receives: its flags as attributes, and the config as it was asked for."""

    config: str  # FILE.py:key=value,...
    overrides: dict[str, str]  # {"config.a.b": text}


# ---------------------------------------------------------------- main


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Errors are one line on standard error."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        return _main([word for word in words if word != "--debug"])
    except XtlError as error:
        _complain(error, debug=debug)
        return EXIT_USAGE if isinstance(error, Usage) else EXIT_FAILED
    except KeyboardInterrupt:
        print("\nxtl: interrupted; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `xtl tasks | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except SystemExit as stop:
        if stop.code == EXIT_TERMINATED:  # xtl.parallel.multihost.Preempted
            print("xtl: asked to stop; everything is saved, the same command goes on from here", file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else EXIT_FAILED
    except Exception as error:
        _complain(error, debug=debug)
        return EXIT_FAILED


def _main(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        if len(words) > 1 and words[0] == "help":
            return _main([words[1], "--help"])
        print(overview())
        return 0
    if words[0] in ("--version", "version"):
        print(f"xtl {__version__}")
        return 0
    name, *rest = words
    if name not in VERBS:
        raise Usage(f"unknown verb {name!r}.{nearest(name, VERBS)}")
    if any(word in ("--help", "-h", "--helpfull") for word in rest):
        print(describe(name))
        return 0
    args = parse(name, rest)
    _look_for_no_tpu_in_vain()
    module, function = VERBS[name].function.split(":")
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise XtlError(f"`xtl {name}` is not part of this version") from None
    return getattr(loaded, function)(args) or 0


def _look_for_no_tpu_in_vain() -> None:
    """With libtpu installed (for ahead-of-time compiles) on a machine without a TPU, JAX searches long and loudly."""
    here = any(glob.glob(pattern) for pattern in ("/dev/accel*", "/dev/vfio*"))
    gpu = any(importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (12, 13))
    if not here and not gpu and "JAX_PLATFORMS" not in os.environ and importlib.util.find_spec("libtpu"):
        os.environ["JAX_PLATFORMS"] = "cpu"


class Usage(XtlError):
    """A command line that cannot be understood."""


def _complain(error: Exception, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, XtlError):
        text = f"{type(error).__name__}: {text} (a fault of xtl, not of the input: --debug shows where)"
    print(f"xtl: {text}", file=sys.stderr)


# ---------------------------------------------------------------- parsing


def parse(name: str, words: Sequence[str]) -> Any:
    """The arguments of a verb from the words of a command line, in absl's conventions."""
    from absl import flags

    verb = VERBS[name]
    config, overrides, rest = _config_words(name, words)
    rest = _joined(rest, {flag.name for flag in verb.flags if flag.default == ()})
    values = flags.FlagValues()  # its own: the process-wide FLAGS stay untouched
    for flag in verb.flags:
        default = list(flag.default) if isinstance(flag.default, tuple) else flag.default
        getattr(flags, _DEFINE[type(flag.default)])(flag.name, default, flag.about, flag_values=values)
    known = [flag.name for flag in verb.flags] + (["config"] if verb.config != "none" else [])
    try:
        left = values(["xtl", *rest])[1:]
    except flags.UnrecognizedFlagError as error:
        raise Usage(f"xtl {name}: unknown flag --{error.flagname}.{_nearest_flag(error.flagname, known)}") from None
    except flags.Error as error:
        raise Usage(f"xtl {name}: {error}") from None
    if left:
        raise Usage(f"xtl {name}: unexpected {left[0]!r}; flags are written --name=value (see `xtl {name} --help`)")
    given: dict[str, Any] = {flag.name: values[flag.name].value for flag in verb.flags}
    for flag in verb.flags:
        if flag.required and not given[flag.name]:
            raise Usage(f"xtl {name} needs --{flag.name}={flag.value}; for example: {verb.example}")
    if verb.config == "required" and not config:
        raise Usage(f"xtl {name} needs --config=FILE.py; for example: {verb.example}")
    lists = {flag.name: tuple(given[flag.name]) for flag in verb.flags if flag.default == ()}
    return Arguments(config=config, overrides=overrides, **{**given, **lists})


_DEFINE = {
    str: "DEFINE_string",
    bool: "DEFINE_bool",
    int: "DEFINE_integer",
    float: "DEFINE_float",
    tuple: "DEFINE_list",
}


def _joined(words: Sequence[str], lists: set[str]) -> list[str]:
    """--stage=a --stage=b as --stage=a,b: absl would take the last one alone, without a word."""
    values: dict[str, list[str]] = {}
    rest = []
    for word in words:
        key, equals, text = word.lstrip("-").partition("=")
        if equals and key in lists and word.startswith("-"):
            values.setdefault(key, []).append(text)
        else:
            rest.append(word)
    return [*(f"--{key}={','.join(texts)}" for key, texts in values.items()), *rest]


def _config_words(name: str, words: Sequence[str]) -> tuple[str, dict[str, str], list[str]]:
    """(FILE.py:arg, {"config.a.b": text}, the other words)."""
    config, overrides, rest = "", {}, []
    waiting = ""  # a flag whose value is the next word
    for word in words:
        if waiting:
            key, text = waiting, word
            waiting = ""
        elif word.startswith(("--config=", "--config.", "-config=", "-config.")) or word in ("--config", "-config"):
            key, equals, text = word.lstrip("-").partition("=")
            if not equals:
                waiting = key
                continue
        else:
            rest.append(word)
            continue
        if VERBS[name].config == "none":
            raise Usage(f"xtl {name} takes no --{key}")
        if key == "config":
            config = text
        else:
            overrides[key] = text
    if waiting:
        raise Usage(f"--{waiting} needs a value")
    return config, overrides, rest


def _nearest_flag(name: str, known: Sequence[str]) -> str:
    near = nearest(name.split(".")[0], known)
    return near.replace("'", "--", 1).replace("'", "") if near.startswith(" Did") else near


# ---------------------------------------------------------------- what verbs share


def load(args: Any) -> Any:
    """The config a verb was asked for: of FILE.py, or without one only the sections that a flag can set."""
    from xtl import config

    if args.config:
        return config.load_config(args.config, args.overrides)
    bare = config.bare()
    for key, text in args.overrides.items():
        config.override(bare, key.removeprefix("config."), text)
    return bare


def write_json(args: Any, value: Any) -> None:
    """The report of a verb as JSON, where --json asks for it."""
    from xtl import files

    if args.json == "-":
        print(json.dumps(value, indent=2, ensure_ascii=False))
    elif args.json:
        files.write_json(args.json, value)


def console(args: Any) -> Any:
    """A rich console on standard output; wide where it is not a terminal, silent where --json=- needs the place."""
    from rich.console import Console

    plain = Console(quiet=getattr(args, "json", "") == "-")
    return plain if plain.is_terminal else Console(width=160, quiet=plain.quiet)


# ---------------------------------------------------------------- help


def overview() -> str:
    """What `xtl` alone prints."""
    lines = [
        f"xtl {__version__}: does training XLM-R on an English task first help it on other languages?",
        "",
        "usage: xtl VERB [--config=FILE.py[:key=value,...]] [--config.a.b=value ...] [--flag=value ...]",
        "",
        *(f"  {name:<8} {verb.about}" for name, verb in VERBS.items()),
        "",
        "  xtl run --config=configs/demo.py     the three phases on the embedded synthetic languages, in minutes",
        "  xtl VERB --help                      its flags, with an example",
        "",
        "Every verb takes --debug (a traceback with an error). Exit status 0 means full success.",
    ]
    return "\n".join(lines)


def describe(name: str) -> str:
    """What `xtl VERB --help` prints."""
    verb = VERBS[name]
    rows = [(f"--{f.name}" + (f"={f.value}" if f.value else ""), f.about + _default(f)) for f in verb.flags]
    if verb.config != "none":
        rows.insert(0, ("--config.a.b=VALUE", "set one key of the config, e.g. --config.data.root=DIR"))
    if verb.config == "required":
        rows.insert(0, ("--config=FILE.py[:k=v,...]", "the config program and its arguments (required)"))
    width = max(len(left) for left, _ in rows) if rows else 0
    room = max(40, min(shutil.get_terminal_size((120, 24)).columns, 120) - width - 4)
    lines = [f"xtl {name}: {verb.about}", "", "flags:"]
    for left, right in rows:
        first, *others = _wrapped(right, room)
        lines.append(f"  {left:<{width}}  {first}")
        lines += [" " * (width + 4) + other for other in others]
    lines += ["", f"example:\n  {verb.example}"]
    return "\n".join([*lines, "", verb.more]) if verb.more else "\n".join(lines)


def _default(flag: Flag) -> str:
    if flag.required:
        return " (required)"
    return f" (default {flag.default})" if flag.default not in ("", (), False, True, 0.0) else ""


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or [""]
