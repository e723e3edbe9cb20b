"""`xtl import` and `xtl export`: weights to and from Hugging Face folders."""

from pathlib import Path
from typing import Any

from xtl import files
from xtl.errors import XtlError

TOKENIZER_FILES = ("sentencepiece.bpe.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def import_(args: Any) -> None:
    """A Hugging Face folder or hub id as an xtl encoder (and its MLM head, if it has one)."""
    out = Path(args.out)
    if files.exists(out):
        raise XtlError(f"{out} exists already: remove it or choose another --out")
    from dataclasses import asdict

    from flax import nnx

    from xtl import __version__, checkpoint, schema
    from xtl.models import convert

    loaded = convert.load_hf(args.model)
    print(loaded.report)
    shape = {key: value for key, value in asdict(loaded.config).items() if key in schema.ENCODER}
    heads = {"mlm": {"family": "mlm", "labels": [], "options": {}}} if loaded.lm_head is not None else {}
    params = {
        "encoder": nnx.to_pure_dict(loaded.params),
        "heads": {"mlm": loaded.lm_head} if loaded.lm_head is not None else {},
    }
    about = {"stage": "", "encoder": {"size": "base", **shape}, "heads": heads, "origin": {"model": str(args.model)}}
    folder = checkpoint.save_encoder(out, params, {**about, "xtl": __version__})
    print(f"encoder  {folder}")


def export(args: Any) -> None:
    """An xtl checkpoint as a folder that transformers loads."""
    tokenizer = Path(args.tokenizer) if args.tokenizer else None
    if tokenizer is not None and not tokenizer.is_dir():
        raise XtlError(f"--tokenizer={tokenizer}: there is no such folder")
    from xtl import checkpoint, state
    from xtl.mesh import make_mesh
    from xtl.models import convert
    from xtl.models.encoder import EncoderConfig
    from xtl.tasks import get_task

    about = checkpoint.describe(checkpoint.find_encoder(args.checkpoint))
    known = {name: value for name, value in about["encoder"].items() if name != "size"}
    shape, mesh = EncoderConfig(**known), make_mesh()
    heads = tuple(get_task(name) for name in about["heads"] if name == "mlm")
    target = state.target(shape, heads, mesh)["params"]
    encoder, loaded, report = checkpoint.load_encoder(args.checkpoint, target["encoder"], heads=target["heads"])
    copied = [tokenizer / name for name in TOKENIZER_FILES if (tokenizer / name).exists()] if tokenizer else []
    folder = convert.save_hf(args.out, shape, encoder, lm_head=loaded.get("mlm"), files=copied)
    if report.left_behind:
        print(f"heads that have no place in a Hugging Face encoder: {', '.join(report.left_behind)}")
    print(f"model    {folder}")
