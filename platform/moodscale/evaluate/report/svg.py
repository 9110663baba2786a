"""A small SVG chart: axes, lines, bands and marks. Colours are classes, so that the style sheet has both themes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from markupsafe import Markup

Point = tuple[float, float]


class Chart:
    """One chart in data coordinates.

    Drawn 360 units wide for a card about as wide in pixels, so that the text keeps its size on a phone.

    Args:
        title: what a screen reader says.
        x_range, y_range: the data's limits.
        height: of the whole drawing.
        left: room for the labels of the y axis.
    """

    WIDTH = 360.0

    def __init__(
        self,
        title: str,
        x_range: Point = (0.0, 1.0),
        y_range: Point = (0.0, 1.0),
        height: float = 300.0,
        left: float = 44.0,
        bottom: float = 40.0,
    ) -> None:
        self._title = title
        self._x_range, self._y_range = x_range, y_range
        self._height = height
        self._left, self._right, self._top, self._bottom = left, self.WIDTH - 10.0, 8.0, height - bottom
        self._parts: list[str] = []

    def x(self, value: float) -> float:
        low, high = self._x_range
        return self._left + (value - low) / (high - low) * (self._right - self._left)

    def y(self, value: float) -> float:
        low, high = self._y_range
        return self._bottom - (value - low) / (high - low) * (self._bottom - self._top)

    def axes(
        self,
        x_label: str,
        y_label: str,
        x_ticks: Sequence[tuple[float, str]],
        y_ticks: Sequence[tuple[float, str]],
    ) -> None:
        for value, text in x_ticks:
            x = self.x(value)
            self._add(f'<line class="grid" x1="{x:.1f}" y1="{self._top:.1f}" x2="{x:.1f}" y2="{self._bottom:.1f}"/>')
            self._text(x, self._bottom + 14, text, "middle")
        for value, text in y_ticks:
            y = self.y(value)
            self._add(f'<line class="grid" x1="{self._left:.1f}" y1="{y:.1f}" x2="{self._right:.1f}" y2="{y:.1f}"/>')
            self._text(self._left - 6, y + 4, text, "end")
        self._text((self._left + self._right) / 2, self._bottom + 32, x_label, "middle", "axis")
        if y_label:
            middle = (self._top + self._bottom) / 2
            self._add(
                f'<text class="axis" text-anchor="middle" transform="translate(12 {middle:.1f}) rotate(-90)">'
                f"{escape(y_label)}</text>"
            )

    def line(self, points: Iterable[Point], css: str) -> None:
        path = " ".join(f"{self.x(x):.2f},{self.y(y):.2f}" for x, y in points)
        self._add(f'<polyline class="{css}" points="{path}"/>')

    def band(self, xs: Iterable[float], low: Iterable[float], high: Iterable[float], css: str) -> None:
        columns = list(zip(xs, low, high, strict=True))
        edge = [(x, top) for x, _, top in columns] + [(x, bottom) for x, bottom, _ in reversed(columns)]
        path = " ".join(f"{self.x(x):.2f},{self.y(y):.2f}" for x, y in edge)
        self._add(f'<polygon class="{css}" points="{path}"/>')

    def dot(self, x: float, y: float, radius: float, css: str, tip: str = "") -> None:
        title = f"<title>{escape(tip)}</title>" if tip else ""
        self._add(f'<circle class="{css}" cx="{self.x(x):.2f}" cy="{self.y(y):.2f}" r="{radius:.1f}">{title}</circle>')

    def bar(self, x_from: float, x_to: float, y_from: float, y_to: float, css: str, tip: str = "") -> None:
        left, top = self.x(x_from), self.y(max(y_from, y_to))
        width, height = self.x(x_to) - left, abs(self.y(y_from) - self.y(y_to))
        box = f'x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" height="{height:.2f}"'
        title = f"<title>{escape(tip)}</title>" if tip else ""
        self._add(f'<rect class="{css}" {box}>{title}</rect>')

    def render(self) -> Markup:
        """The finished element. Everything that is not ours has been escaped on its way in."""
        return Markup(
            f'<svg viewBox="0 0 {self.WIDTH:g} {self._height:g}" role="img" aria-label="{escape(self._title)}">'
            + "".join(self._parts)
            + "</svg>"
        )

    def _text(self, x: float, y: float, text: str, anchor: str, css: str = "tick") -> None:
        self._add(f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def _add(self, part: str) -> None:
        self._parts.append(part)


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between the limits, at most ``most`` of them."""
    span = high - low
    if span <= 0:
        return [low]
    magnitude = 10.0 ** len(str(int(span)))
    step = magnitude
    while span / step < 1e6:
        for factor in (1.0, 0.5, 0.2):
            if span / (magnitude * factor) + 1 > most:
                return _multiples(low, high, step)
            step = magnitude * factor
        magnitude /= 10.0
    return _multiples(low, high, step)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first = int(-(-low // step))
    count = int((high - first * step) // step) + 1
    return [round((first + index) * step, 12) for index in range(max(count, 0))]
