"""Items of an indexable source, in order, prepared ahead by threads of Grain; order is by index alone."""

import contextlib
from collections.abc import Generator
from typing import Any, Protocol


class Indexed(Protocol):
    """Anything with a length and items by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Any: ...


def prefetched(
    source: Indexed, *, start: int = 0, stop: int | None = None, ahead: int = 2
) -> Generator[Any, None, None]:
    """source[start], ..., source[stop - 1]; up to `ahead` items are prepared in advance (0: none, in this thread).

    An item that cannot be prepared raises its error at its own place in the order. The threads end with the generator.
    """
    stop = len(source) if stop is None else stop
    if ahead <= 0 or stop - start <= 1:
        yield from (source[i] for i in range(start, stop))
        return
    import grain

    dataset = grain.MapDataset.source(source)[start:stop]
    options = grain.ReadOptions(num_threads=ahead, prefetch_buffer_size=ahead)
    with contextlib.closing(iter(dataset.to_iter_dataset(options))) as items:
        yield from items
