"""Checkpoints: the only file that knows Orbax.

A stage keeps `checkpoints/<step>/` with the items
    state/     the whole train state, for going on; removed once the stage is done (`slim`)
    encoder/   the encoder alone: the handoff to other stages; in the last (or the best) checkpoint only
    heads/     the trained heads, beside encoder/
and one JSON description (`about`): configs, provenance, progress, and an integer digest of every array. Orbax makes a
step appear whole or not at all and finds truncated files, but not flipped bits: the digests do, at every load.
A handoff from elsewhere (an import) is a folder with encoder/, heads/ and the same description.
"""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from xtl import files
from xtl.errors import XtlError
from xtl.parallel import multihost
from xtl.training.state import Params, State

Tree = Any
About = dict[str, Any]
FORMAT = 1  # of the items and the description; raised when an older reader would misread them


class Damaged(Exception):
    """A checkpoint that is there but cannot be trusted."""


# ---------------------------------------------------------------- digests


@jax.jit
def digest(tree: Tree) -> Tree:
    """A uint32 for each array: a sum of hashed words, each times an odd number made from its index.

    Integer arithmetic, so the same on every mesh and backend; any single changed word changes it.
    """
    return jax.tree.map(_digest, tree)


def _digest(x: jax.Array) -> jax.Array:
    words = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}")).astype(jnp.uint32)
    index = jnp.zeros(x.shape, jnp.uint32)
    for dim, size in enumerate(x.shape):  # built by dimension, so that it is split over devices as x is
        index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, dim)
    odd = index * jnp.uint32(2654435761) | jnp.uint32(1)
    return jnp.sum((words ^ (words >> 15)) * jnp.uint32(2246822519) * odd, dtype=jnp.uint32)


def digests(tree: Tree) -> dict[str, int]:
    """The digest of every array by its path, on the host."""
    return {name: int(value) for name, value in named(jax.device_get(digest(tree))).items()}


def named(tree: Tree) -> dict[str, Any]:
    """Leaves by path: {"encoder/layers/mlp/wi/kernel": ...}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def fingerprint(digests_by_name: Mapping[str, int]) -> str:
    """Eight hex digits for a whole tree of digests: the same weights, the same name."""
    total = functools.reduce(
        lambda a, b: (a * 16777619 ^ b) % 2**32, (v for _, v in sorted(digests_by_name.items())), 2166136261
    )
    return f"{total:08x}"


# ---------------------------------------------------------------- a stage's checkpoints


class Checkpoints:
    """The checkpoints of one stage, newest last. Saves run in the background; their errors surface at the next call.

    keep: how many of the newest stay; the newest one with a handoff always stays. note: takes one line about anything
    unusual (a damaged checkpoint that was passed over). Use as a context manager: leaving waits for the last save.
    """

    def __init__(self, folder: files.Pathish, *, keep: int = 1, note: Callable[[str], None] = logging.warning):
        from orbax.checkpoint import v1 as ocp

        self.folder, self._note = os.path.abspath(folder) if not files.is_remote(folder) else os.fspath(folder), note
        self._policy = _Keep(max(1, keep), set())
        self._orbax = ocp.training.Checkpointer(
            self.folder,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),  # the loop decides
            preservation_policy=self._policy,
            cleanup_tmp_directories=True,  # what a killed save has left
        )
        self._pending: Any = None
        self._policy.handoffs.update(step for step in self.steps if files.exists(self.path(step, "encoder")))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._orbax.close()

    @property
    def steps(self) -> list[int]:
        """The steps of the finished checkpoints, ascending."""
        return [checkpoint.step for checkpoint in self._orbax.checkpoints]

    @property
    def handoff_step(self) -> int | None:
        """The newest step that has an encoder to hand on."""
        return max((step for step in self.steps if step in self._policy.handoffs), default=None)

    def path(self, step: int, *parts: str) -> str:
        return files.join(self.folder, str(step), *parts)

    def wait(self) -> None:
        """Wait for the save under way; raises what went wrong in it."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except Exception as error:
            raise XtlError(f"saving a checkpoint under {self.folder} failed: {_first_line(error)}") from error

    def save(self, step: int, state: State, about: About, *, handoff: bool = False) -> None:
        """Begin to save the state after `step` steps; with handoff, also its parameters as encoder/ and heads/.

        Returns when the arrays are copied off the devices, so the state may then be donated.
        """
        self.wait()
        if step in self.steps:  # saved just now by another event of the same step
            if not handoff or step in self._policy.handoffs:
                return
            self._orbax.delete(step)
        items, checks = {"state": state}, {"state": digests(state)}
        if handoff:
            self._policy.handoffs.add(step)
            items |= _handoff_items(state.params)
            for item in ("encoder", "heads"):
                checks[item] = _below(f"params/{item}/", checks["state"])
        self._pending = self._orbax.save_checkpointables_async(
            step, items, force=True, custom_metadata=_description(about, checks)
        )

    def restore(self, target: State) -> tuple[State, About] | None:
        """(state, about) of the newest trustworthy checkpoint, on the target's shardings; None if there are none.

        A damaged checkpoint is moved aside with a note and the one before it is taken; when all are damaged that is an
        XtlError: starting over must be somebody's decision. A checkpoint of another model is an XtlError, too.
        """
        self.wait()
        seen: list[str] = []
        for step in reversed(self.steps):
            try:
                about = describe(self.path(step))
                return _load(self.path(step), {"state": target}, about)["state"], about
            except Damaged as error:
                seen.append(f"step {step}: {error}")
                self._note(f"checkpoint {self.path(step)} is damaged ({error}); it is moved aside to {step}.damaged")
                self._set_aside(step)
        if seen:
            raise XtlError(
                f"every checkpoint in {self.folder} is damaged ({'; '.join(seen)}): remove the folder to start the "
                "stage again"
            )
        return None

    def _set_aside(self, step: int) -> None:
        from etils import epath

        if multihost.is_first():
            aside = epath.Path(self.path(step) + ".damaged")
            if aside.exists():
                aside.rmtree()
            epath.Path(self.path(step)).rename(aside)
        multihost.barrier(f"set_aside/{self.folder}/{step}")
        self._policy.handoffs.discard(step)
        self._orbax.reload()


@dataclass
class _Keep:
    """Orbax's question which checkpoints stay: the newest `count`, and the newest with a handoff."""

    count: int
    handoffs: set[int]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        handoff = max((step for step in steps if step in self.handoffs), default=None)
        return [step in steps[-self.count :] or step == handoff for step in steps]


# ---------------------------------------------------------------- handoff


def save_encoder(folder: files.Pathish, params: Params, about: About) -> str:
    """Write parameters as a handoff of its own (an import); returns the folder. It must not exist yet."""
    from orbax.checkpoint import v1 as ocp

    folder = os.fspath(folder) if files.is_remote(folder) else os.path.abspath(folder)
    if files.exists(folder):
        raise XtlError(f"{folder} exists already: remove it or choose another name")
    items = _handoff_items(params)
    checks = {item: digests(tree) for item, tree in items.items()}
    ocp.save_checkpointables(folder, items, custom_metadata=_description(about, checks))
    return folder


def find_encoder(path: files.Pathish) -> str:
    """The folder that holds encoder/: of a handoff, one checkpoint, its encoder/ itself, or the newest of a stage."""
    path = os.fspath(path).rstrip("/")
    path = path if files.is_remote(path) else os.path.abspath(path)
    for folder in (path, os.path.dirname(path) if os.path.basename(path) == "encoder" else path):
        if files.exists(files.join(folder, "encoder")) and files.exists(files.join(folder, _DESCRIPTION)):
            return folder
    for folder in (files.join(path, "checkpoints"), path):
        steps = [s for s in _step_folders(folder) if files.exists(files.join(folder, str(s), "encoder"))]
        if steps:
            return files.join(folder, str(max(steps)))
    if not files.exists(path):
        raise XtlError(f"{path}: no such checkpoint")
    raise XtlError(f"{path}: no encoder to hand on (is the stage finished? for Hugging Face weights: `xtl import`)")


def slim(folder: files.Pathish) -> None:
    """Free what a finished stage needs no more: train states (two thirds of them moments), and all but the handoff.

    A matrix of hundreds of stages would fill terabytes with them. Cut off halfway, it leaves nothing that is misread:
    the handoff's own items are not touched.
    """
    from etils import epath

    steps = sorted(_step_folders(os.fspath(folder)))
    handoffs = [step for step in steps if files.exists(files.join(folder, str(step), "encoder"))]
    if not handoffs:
        return
    for step in steps:
        surplus = epath.Path(files.join(folder, str(step)))
        surplus = surplus / "state" if step == handoffs[-1] else surplus
        if surplus.exists():
            surplus.rmtree()


def describe(path: files.Pathish) -> About:
    """The description stored in a checkpoint: configs, heads, provenance, progress, digests. Reads no array."""
    file = files.join(path, _DESCRIPTION)
    try:
        about = json.loads(files.read_text(file))["custom_metadata"]
        if about["format"] > FORMAT:
            raise XtlError(f"{path} is of format {about['format']}, newer than this xtl reads ({FORMAT}): update xtl")
        if about["checksum"] != _checksum(about):
            raise Damaged("the checksum of its description is wrong")
        return about
    except (XtlError, Damaged):
        raise
    except Exception as error:
        raise Damaged(f"its description cannot be read: {_first_line(error)}") from error


def load_encoder(
    path: files.Pathish, target: Tree, *, heads: Mapping[str, Tree] | None = None
) -> tuple[Tree, dict[str, Tree], "LoadReport"]:
    """(encoder, heads, report) of a handoff, on the targets' shardings, digests verified. Optimizer state is not read.

    target: the encoder as shapes with shardings. heads: targets of the heads wanted, by the name they were saved under.
    An encoder that differs in any array is an XtlError that lists what is missing and what is extra; so is a wanted
    head that the handoff lacks. Heads that nobody wants are named in the report.
    """
    folder = find_encoder(path)
    try:
        about = describe(folder)
        stored = about["digests"].get("heads", {})
        names = {name.split("/")[0] for name in stored}
        wanted = {name: head for name, head in (heads or {}).items() if jax.tree.leaves(head)}
        for name in wanted:
            if name not in names:
                raise XtlError(f"{folder} has no head {name!r} (it has: {', '.join(sorted(names)) or 'none'})")
        encoder = _load(folder, {"encoder": target}, about)["encoder"]
        loaded = _load(folder, {"heads": wanted}, about, partial=True)["heads"] if wanted else {}
    except Damaged as error:
        raise XtlError(f"{folder} is damaged ({error}): train or import it again") from error
    empty = {name: head for name, head in (heads or {}).items() if name not in wanted}
    report = LoadReport(
        folder=folder,
        about=about,
        fingerprint=fingerprint(about["digests"]["encoder"]),
        left_behind=tuple(sorted(names - set(wanted))),
    )
    return encoder, {**loaded, **empty}, report


@dataclass(frozen=True)
class LoadReport:
    """What came of a handoff: where from, its description, a name for its weights, and the heads left behind."""

    folder: str
    about: About
    fingerprint: str
    left_behind: tuple[str, ...]


# ---------------------------------------------------------------- shared

_COMMITTED = "commit_success.txt"
_DESCRIPTION = "_CHECKPOINT_METADATA"  # where Orbax puts custom_metadata, as JSON, in the same atomic commit


def _handoff_items(params: Params) -> dict[str, Tree]:
    heads = {name: head for name, head in params.heads.items() if jax.tree.leaves(head)}
    return {"encoder": params.encoder, **({"heads": heads} if heads else {})}


def _below(prefix: str, checks: Mapping[str, int]) -> dict[str, int]:
    return {name.removeprefix(prefix): value for name, value in checks.items() if name.startswith(prefix)}


def _description(about: About, checks: Mapping[str, Mapping[str, int]]) -> About:
    whole = {**about, "format": FORMAT, "digests": {item: dict(values) for item, values in checks.items()}}
    return {**whole, "checksum": _checksum(whole)}


def _checksum(about: About) -> str:
    rest = {key: value for key, value in about.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:16]


def _load(folder: str, items: Mapping[str, Tree], about: About, *, partial: bool = False) -> dict[str, Tree]:
    """Items of a checkpoint, compared with what is stored before, and with their digests after reading."""
    from orbax.checkpoint import v1 as ocp

    for item, target in items.items():
        _compare(folder, item, named(target), about["digests"].get(item, {}), partial=partial)
    context = ocp.Context()
    context.pytree_options.loading.partial_load = partial
    try:
        with context:
            loaded = ocp.load_checkpointables(folder, dict(items))
    except Exception as error:  # Orbax, TensorStore and zarr raise many kinds
        if (mismatch := _shape_mismatch(folder, items)) is not None:
            raise XtlError(mismatch) from error
        raise Damaged(_first_line(error)) from error
    for item, tree in loaded.items():
        expected = about["digests"][item]
        wrong = [name for name, value in digests(tree).items() if value != expected[name]]
        if wrong:
            raise Damaged(f"wrong digest of {item}/{wrong[0]}{_more(wrong)}")
    return loaded


def _compare(folder: str, item: str, target: Mapping, stored: Mapping, *, partial: bool) -> None:
    """Both directions: arrays that the target wants and the checkpoint lacks, and the reverse."""
    missing = sorted(set(target) - set(stored))
    extra = [] if partial else sorted(set(stored) - set(target))
    if missing or extra:
        both = (("missing", missing), ("extra", extra))
        parts = [f"{what} {names[0]}{_more(names)}" for what, names in both if names]
        raise XtlError(f"{folder}/{item} is of another model: {'; '.join(parts)}")


def _shape_mismatch(folder: str, items: Mapping[str, Tree]) -> str | None:
    from orbax.checkpoint import v1 as ocp

    try:
        metadata = ocp.checkpointables_metadata(folder).metadata
        for item, target in items.items():
            stored = named(metadata[item])
            for name, want in named(target).items():
                if name in stored and tuple(stored[name].shape) != tuple(want.shape):
                    return f"{folder}/{item}/{name} has shape {tuple(stored[name].shape)}, not {tuple(want.shape)}"
    except Exception:
        return None
    return None


def _step_folders(folder: str) -> Iterator[int]:
    if files.exists(folder):
        from etils import epath

        for child in epath.Path(folder).iterdir():
            # object stores cannot rename a whole folder into place: there a file says that a checkpoint is whole
            if child.name.isdigit() and (not files.is_remote(folder) or (child / _COMMITTED).exists()):
                yield int(child.name)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200] if text else 'no message'}"


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
