"""Tables for people: the results of a run, on a terminal."""

from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.table import Table as Grid
from rich.text import Text

from xtl.runs.results import BASELINE, Cell, Column, Table

FIRST, SPACE, GAIN = 14, 2, 6  # widths: least of the column of names; between columns; of a gain


def results_tables(result: Table, *, width: int) -> Iterator[RenderableType]:
    """The table of results, in as many blocks of targets as the width needs; the best of each column is bold."""
    label = max([FIRST, *(len(name) for name in result.cells)])
    blocks: list[list[int]] = [[]]
    used = label + SPACE
    for i, column in enumerate(result.columns):
        size = _width(result, i) + SPACE
        opens = not blocks[-1] or column.target != result.columns[blocks[-1][-1]].target
        pair = size + (_width(result, i + 1) + SPACE if _same_target(result, i) else 0)
        if blocks[-1] and opens and used + pair > width:
            blocks.append([])
            used = label + SPACE
        blocks[-1].append(i)
        used += size
    for block in blocks:
        yield _block(result, block, label=label)
    for name, remark in result.remarks.items():
        yield Text(f"{name}: {remark}", style="yellow")


def _same_target(result: Table, i: int) -> bool:
    return i + 1 < len(result.columns) and result.columns[i + 1].target == result.columns[i].target


def _width(result: Table, i: int) -> int:
    gains = _has_gains(result)
    cells = [_cell(cells[i], best=False, gains=gains).cell_len for cells in result.cells.values()]
    return max([*(len(line) for line in _head(result.columns[i], first=True).split("\n")), *cells])


def _has_gains(result: Table) -> bool:
    return any(cell is not None and cell.gain is not None for cells in result.cells.values() for cell in cells)


def _block(result: Table, block: list[int], *, label: int) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, SPACE, 0, 0), show_edge=False, header_style="bold")
    grid.add_column("\nintermediate", min_width=label, no_wrap=True)
    for k, i in enumerate(block):
        column = result.columns[i]
        first = k == 0 or result.columns[block[k - 1]].target != column.target
        grid.add_column(_head(column, first=first), justify="right", no_wrap=True)
    tops = {i: max((cell.mean for c in result.cells.values() if (cell := c[i])), default=None) for i in block}
    gains = _has_gains(result)
    for name, cells in result.cells.items():
        row = [_cell(cell, best=bool(cell and cell.mean == tops[i]), gains=gains) for i in block for cell in [cells[i]]]
        grid.add_row(Text(name, style="italic" if name == BASELINE else ""), *row)
    return grid


def _head(column: Column, *, first: bool) -> str:
    return f"{f'{column.target} {column.metric}' if first else ''}\n{column.group}"


def _cell(cell: Cell | None, *, best: bool, gains: bool) -> Text:
    """`63.4 ±0.8  +2.1`; where other rows have a gain, a cell without one leaves its place empty."""
    if cell is None:
        return Text("–" + (" " * GAIN if gains else ""), style="bright_black")
    text = Text(f"{cell.mean:.1f}", style="bold" if best else "")
    if cell.spread is not None:
        text.append(f" ±{cell.spread:.1f}", style="not bold bright_black")
    if cell.gain is not None:
        colour = "green" if cell.gain > 0.05 else "red" if cell.gain < -0.05 else "bright_black"
        text.append(f" {cell.gain:+{GAIN - 1}.1f}", style=f"not bold {colour}")
    elif gains:
        text.append(" " * GAIN)
    return text
