"""The graph of stages as an SVG: parents left of their successors; stages without successors stand in a grid."""

import html
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from xtl.logs import duration, human
from xtl.runs.read import Run, Stage

WIDE, HIGH = 166, 40  # one box
ACROSS, DOWN, BESIDE = 44, 8, 8  # gaps: between generations, rows, and leaves of one row
COLUMNS = 4  # most leaves a row
LOWEST = 240  # of a box below the top of its successors: in a tall graph the first box must be in sight


@dataclass(frozen=True)
class _Node:
    """A stage, or (stage None) the encoder that several stages start from."""

    name: str
    stage: Stage | None


@dataclass
class _Placed:
    node: _Node
    x: float
    y: float


Children = dict[str, list[_Node]]


def draw(run: Run) -> str:
    """An <svg> element; boxes link to the sections of their stages and carry state, time and tokens."""
    children = _children(run)
    placed: dict[str, _Placed] = {}
    bottom = 2.0
    for root in children.pop("", []):
        bottom = _place(root, children, placed, x=2.0, top=bottom) + 2 * DOWN
    if not placed:
        return ""
    width = max(p.x for p in placed.values()) + WIDE + 2
    lines = [_edge(placed[name], placed[child.name]) for name, nodes in children.items() for child in nodes]
    boxes = [_box(run, one) for one in placed.values()]
    return (
        f'<svg class="graph" role="group" aria-label="Graph of {len(run.units)} stages" width="{width:.0f}" '
        f'height="{bottom:.0f}" viewBox="0 0 {width:.0f} {bottom:.0f}">' + "".join([*lines, *boxes]) + "</svg>"
    )


def _children(run: Run) -> Children:
    """The nodes that start from each node; "" holds those that start from none."""
    children: Children = {}
    starts = Counter(stage.start for stage in run.units if not stage.parents)
    for stage in run.units:
        node = _Node(stage.name, stage)
        if stage.parents:
            children.setdefault(run.stages[stage.parents[0]].trained_as, []).append(node)
        elif starts[stage.start] > 1:
            if stage.start not in children:
                children.setdefault("", []).append(_Node(stage.start, None))
            children.setdefault(stage.start, []).append(node)
        else:
            children.setdefault("", []).append(node)
    return children


def _place(node: _Node, children: Children, placed: dict[str, _Placed], *, x: float, top: float) -> float:
    """Place a node and its successors below `top`; returns their lower end."""
    successors = children.get(node.name, [])
    leaves = [child for child in successors if child.name not in children]
    columns = math.ceil(len(leaves) / max(1, math.ceil(len(leaves) / COLUMNS)))  # rows of about equal length
    right, y = x + WIDE + ACROSS, top
    for i, leaf in enumerate(leaves):
        placed[leaf.name] = _Placed(leaf, right + (i % columns) * (WIDE + BESIDE), top + i // columns * (HIGH + DOWN))
        y = placed[leaf.name].y + HIGH + DOWN
    middles = [placed[leaves[0].name].y, placed[leaves[-1].name].y] if leaves else []
    for child in successors:
        if child.name in children:
            y = _place(child, children, placed, x=right, top=y + (DOWN if y > top else 0)) + DOWN
            middles.append(placed[child.name].y)
    middle = (middles[0] + middles[-1]) / 2 if middles else top
    placed[node.name] = _Placed(node, x, min(middle, top + LOWEST))
    return max(y - DOWN, placed[node.name].y + HIGH)


def _edge(a: _Placed, b: _Placed) -> str:
    x0, y0, y1 = a.x + WIDE, a.y + HIGH / 2, b.y + HIGH / 2
    gate = a.x + WIDE + ACROSS
    if b.x > gate + 1:
        return ""  # a later leaf of a row: the row has one line
    return f'<path d="M{x0:.1f},{y0:.1f} C{x0 + 26:.1f},{y0:.1f} {gate - 26:.1f},{y1:.1f} {gate:.1f},{y1:.1f}"/>'


MARKS = {"done": "✓", "failed": "✕", "running": "▶", "pending": "○"}


def _box(run: Run, one: _Placed) -> str:
    stage = one.node.stage
    if stage is None:
        return _frame(one, _cut(one.node.name, 23), "start encoder")
    shared = [name for name, other in run.stages.items() if other.trained_as == stage.name and name != stage.name]
    detail = ", ".join(cost_parts(stage)) or stage.state
    title = f"{stage.name}: {stage.purpose or stage.phase}, {stage.state}"
    title += f", {detail}" if detail != stage.state else ""
    title += f"; shared with {', '.join(shared)}" if shared else ""
    name = _cut(stage.name + (f" +{len(shared)}" if shared else ""), 23)
    mark = f'<tspan class="mark">{MARKS.get(stage.state, "?")}</tspan> '
    return (
        f'<a href="#stage-{html.escape(stage.name)}" class="{html.escape(stage.state)}">'
        f"<title>{html.escape(title)}</title>{_frame(one, name, _cut(detail, 27), mark)}</a>"
    )


def _frame(one: _Placed, name: str, detail: str, mark: str = "") -> str:
    return (
        f'<rect x="{one.x:.1f}" y="{one.y:.1f}" width="{WIDE}" height="{HIGH}" rx="7"/>'
        f'<text x="{one.x + 10:.1f}" y="{one.y + 16.5:.1f}">{mark}{html.escape(name)}</text>'
        f'<text class="small" x="{one.x + 10:.1f}" y="{one.y + 31:.1f}">{html.escape(detail)}</text>'
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def cost_parts(stage: Stage) -> list[str]:
    """Time, tokens and operations, as far as they are known."""
    parts = [] if stage.seconds is None else [duration(stage.seconds)]
    if stage.tokens:
        parts += [f"{short(stage.tokens)} tok", f"{short(stage.flops)}FLOP"]
    return parts


def short(number: float) -> str:
    """Three digits and a unit."""
    return human(float(f"{number:.3g}")).strip()


def total(stages: Sequence[Stage]) -> tuple[float, int, float]:
    """(seconds, tokens, FLOPs) of the stages."""
    return sum(s.seconds or 0.0 for s in stages), sum(s.tokens for s in stages), sum(s.flops for s in stages)
