"""What lies at a path that weights come from: an xtl checkpoint, or a Hugging Face model. No JAX."""

import os

from xtl import files


def expanded(start: files.Pathish) -> str:
    """A path or hub id with ~ replaced."""
    return os.fspath(start) if files.is_remote(start) else os.path.expanduser(os.fspath(start))


def is_checkpoint(start: files.Pathish) -> bool:
    """Whether the path holds xtl checkpoints: a stage's folder, one checkpoint, its encoder, or an import."""
    path = expanded(start).rstrip("/")
    if os.path.basename(path) == "encoder" and files.exists(path):
        return True
    return any(files.exists(files.join(path, name)) for name in ("checkpoints", "encoder", "_METADATA"))
