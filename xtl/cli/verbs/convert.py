"""`xtl import` and `xtl export`: weights to and from Hugging Face folders."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtl import files
from xtl.errors import XtlError, nearest
from xtl.families import family
from xtl.task import Task, with_options
from xtl.tasks import get_task

if TYPE_CHECKING:
    from xtl.models.hf import names

TOKENIZER_FILES = ("sentencepiece.bpe.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
NO_HEAD = "none"


def import_(args: Any) -> None:
    """A Hugging Face folder or hub id as an xtl encoder, with its MLM head if it has one, and the head of --task."""
    out = Path(args.out)
    if files.exists(out):
        raise XtlError(f"{out} exists already: remove it or choose another --out")
    from flax import nnx

    from xtl import __version__
    from xtl.config import schema
    from xtl.models.hf import names
    from xtl.models.hf.load import load_hf
    from xtl.training import checkpoint
    from xtl.training.state import Params

    described, head = {}, None
    if args.task:
        task = get_task(args.task)
        options = dict(family(task).counterpart_options)
        described[task.name] = {"family": task.family, "labels": list(task.labels), "options": options}
        head = names.head(family(task).head_of_transformers(with_options(task, options)), task.labels)
    if args.labels and not (head and head.labels):
        raise XtlError(f"--labels={','.join(args.labels)}: only with the --task of a head that has labels")
    loaded = load_hf(args.model, head=head, labels=args.labels)
    print(loaded.report)
    heads = {args.task: loaded.head} if head else {}
    if loaded.lm_head is not None:
        described["mlm"] = {"family": "mlm", "labels": [], "options": {}}
        heads["mlm"] = loaded.lm_head
    shape = {key: value for key, value in asdict(loaded.config).items() if key in schema.types_of(schema.Encoder)}
    about = {"encoder": {"size": "base", **shape}, "heads": described, "origin": {"model": str(args.model)}}
    params = Params(nnx.to_pure_dict(loaded.params), heads)
    folder = checkpoint.save_encoder(out, params, {"stage": "", **about, "xtl": __version__})
    print(f"heads    {', '.join(heads) or NO_HEAD}")
    print(f"encoder  {folder}")


def export(args: Any) -> None:
    """An xtl checkpoint as a folder that transformers loads: the encoder, and one head."""
    tokenizer = Path(args.tokenizer) if args.tokenizer else None
    if tokenizer is not None and not tokenizer.is_dir():
        raise XtlError(f"--tokenizer={tokenizer}: there is no such folder")
    from xtl.models.encoder import EncoderConfig
    from xtl.models.hf.save import save_hf
    from xtl.parallel.mesh import make_mesh
    from xtl.training import handoff

    section = handoff.encoder_section(args.checkpoint)
    shape = EncoderConfig(**{name: value for name, value in section.items() if name != "size"})
    choose = lambda heads: _head_to_export(heads, args.head)
    loaded = handoff.load(args.checkpoint, config=shape, mesh=make_mesh(), choose=choose)
    head = next(((_counterpart(task), loaded.params.heads[name]) for name, task in loaded.heads.items()), None)
    copied = [tokenizer / name for name in TOKENIZER_FILES if (tokenizer / name).exists()] if tokenizer else []
    # No class with a head has the encoder's pooler: there, multiple choice has its own in that place.
    folder = save_hf(args.out, shape, loaded.params.encoder, head=head, pooler=head is None, files=copied)
    print(f"head     {', '.join(loaded.heads) or NO_HEAD}")
    if loaded.left_behind:
        print(f"left out {', '.join(loaded.left_behind)}")
    print(f"model    {folder}")


def _counterpart(task: Task) -> "names.Head":
    """Where the weights of a task's head lie in a Hugging Face folder. XtlError where no class has such a head."""
    from xtl.models.hf import names

    return names.head(family(task).head_of_transformers(task), task.labels)


def _head_to_export(heads: Mapping[str, Task], asked: str) -> tuple[str, ...]:
    """The name of the head asked for or, if none is, of the only one with a counterpart in transformers; or nothing."""
    if asked == NO_HEAD:
        return ()
    if asked:
        if asked not in heads:
            raise XtlError(f"--head={asked}: the checkpoint has no such head.{nearest(asked, heads)}")
        _counterpart(heads[asked])
        return (asked,)
    fitting = []
    for name, task in heads.items():
        try:
            _counterpart(task)
            fitting.append(name)
        except XtlError as error:
            print(error)
    if len(fitting) > 1:
        raise XtlError(f"the checkpoint has several heads: choose --head={' or --head='.join(fitting)} (or {NO_HEAD})")
    return tuple(fitting)
