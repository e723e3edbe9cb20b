"""Traces of a few steps for xprof (TensorBoard's profiler): on the timeline, what the devices and the host did when."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from xtl import files


class StepProfile:
    """Traces the steps `first` to `last` (counted from 1, both included) into `folder`; without steps, does nothing.

    Every host writes its own file below folder/plugins/profile/<time>/. Use as a context manager: a stage that ends
    between the two keeps what there is.
    """

    def __init__(
        self, steps: tuple[int, int] | None, folder: files.Pathish, *, note: Callable[[str], None] = lambda text: None
    ):
        self.steps, self.folder, self._note = steps, folder, note
        self._aside: Any = None
        self._running = False

    def __enter__(self) -> "StepProfile":
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()

    def before(self, step: int, *, wait: Callable[[], Any]) -> None:
        """Begin or end the trace where it is due; `wait` blocks until the devices have done the steps before."""
        if self.steps is not None and step in (self.steps[0], self.steps[1] + 1):
            wait()  # the trace holds whole steps, and only those asked for
            if step == self.steps[0]:
                self._start()
            else:
                self._stop()

    def step(self, step: int) -> contextlib.AbstractContextManager[Any]:
        """Around the dispatch of one step: its name on the timeline."""
        return jax.profiler.StepTraceAnnotation("train", step_num=step) if self._running else contextlib.nullcontext()

    def _start(self) -> None:
        into = self.folder
        if files.is_remote(into):  # the profiler writes local files only
            self._aside = tempfile.TemporaryDirectory(prefix="xtl-profile-")
            into = self._aside.name
        jax.profiler.start_trace(str(into))
        self._running = True

    def _stop(self) -> None:
        if not self._running:
            return
        self._running = False
        jax.profiler.stop_trace()
        if self._aside is not None:
            for path in Path(self._aside.name).rglob("*"):
                if path.is_file():
                    target = files.join(self.folder, path.relative_to(self._aside.name).as_posix())
                    files.atomic_write(target, path.read_bytes())
            self._aside.cleanup()
        first, last = self.steps or (0, 0)
        self._note(f"trace of steps {first} to {last} in {self.folder} (xprof --logdir={self.folder})")
