"""Names beside the points of a figure, placed so that they cover each other and the points as little as possible."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Box = Sequence[float]  # left, bottom, right, top, in pixels

REACHES = (4, 12, 22, 34)  # from a point to its name, in 1/72 inch; beyond the first, a line joins them
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))  # (right, up); the preferred ones first
MARK = 2.0  # radius of a point, in 1/72 inch
HORIZONTAL = {-1: "right", 0: "center", 1: "left"}
VERTICAL = {-1: "top", 0: "center", 1: "bottom"}


@dataclass(frozen=True)
class _Place:
    reach: int
    side: tuple[int, int]
    box: Box


def label_points(
    axes: Any, points: Iterable[tuple[str, float, float]], *, size: float = 7, color: str | None = None
) -> None:
    """Write each name beside its point (name, x, y), from the highest point to the lowest.

    Call it last: it fixes the layout of the figure, because boxes of text are only known in pixels.
    """
    from matplotlib.font_manager import FontProperties

    points = sorted(points, key=lambda point: (-point[2], point[0]))
    axes.figure.draw_without_rendering()
    axes.figure.set_layout_engine("none")
    renderer, pixels = axes.figure.canvas.get_renderer(), axes.figure.dpi / 72
    frame, font = axes.get_window_extent().extents, FontProperties(size=size)
    centres = {name: axes.transData.transform((x, y)) for name, x, y in points}
    margin = MARK * pixels
    taken: list[Box] = [(x - margin, y - margin, x + margin, y + margin) for x, y in centres.values()]
    if (legend := axes.get_legend()) is not None:
        taken.append(legend.get_window_extent(renderer).extents)
    for name, x, y in points:
        width, height, _ = renderer.get_text_width_height_descent(name, font, ismath=False)
        place = _least_covered(_places(centres[name], width, height, pixels), taken, frame)
        taken.append(place.box)
        right, up = place.side
        axes.annotate(
            name,
            (x, y),
            xytext=(right * place.reach, up * place.reach),
            textcoords="offset points",
            fontsize=size,
            color=color,
            ha=HORIZONTAL[right],
            va=VERTICAL[up],
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "0.6"} if place.reach > REACHES[0] else None,
        )


def _places(centre: Sequence[float], width: float, height: float, pixels: float) -> Iterator[_Place]:
    """Where a text of this size (in pixels) may stand around a point, nearest first."""
    for reach, (right, up) in itertools.product(REACHES, SIDES):
        left = centre[0] + right * reach * pixels - {-1: width, 0: width / 2, 1: 0.0}[right]
        bottom = centre[1] + up * reach * pixels - {-1: height, 0: height / 2, 1: 0.0}[up]
        yield _Place(reach, (right, up), (left, bottom, left + width, bottom + height))


def _least_covered(places: Iterator[_Place], taken: Sequence[Box], frame: Box) -> _Place:
    """The first place that covers nothing and is inside the frame, or the one that comes nearest to that."""
    best, least = next(places), float("inf")
    for place in itertools.chain([best], places):
        covered = sum(_overlap(place.box, box) for box in taken) + _outside(place.box, frame)
        if covered < least:
            best, least = place, covered
        if covered == 0:
            break
    return best


def _overlap(a: Box, b: Box) -> float:
    """The area that two boxes share."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return float(width * height) if width > 0 and height > 0 else 0.0


def _outside(box: Box, frame: Box) -> float:
    """The area of a box outside the frame; a rounding error counts as nothing."""
    area = (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, frame)
    return area if area > 1e-6 else 0.0
