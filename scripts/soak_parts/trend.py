"""Whether a number grows: least squares with an honest confidence, and the first and the last tenth. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf, sqrt
from statistics import fmean, median

import attrs

T_95 = 2.0
"""Student's t for 95 %, two-sided, of some dozens of degrees of freedom."""
FEWEST = 4


@attrs.frozen
class Slope:
    """By how much per unit of x, give or take: the true one is between with 95 %."""

    per: float
    give_or_take: float

    @property
    def least(self) -> float:
        return self.per - self.give_or_take

    @property
    def most(self) -> float:
        return self.per + self.give_or_take


def slope(xs: Sequence[float], ys: Sequence[float]) -> Slope | None:
    """The line through the points; None where they are too few.

    What is left beside the line is no noise: memory grows in steps that stay. So the confidence is that of as many
    points as are independent, by the correlation of each rest with the next: n (1 - r) / (1 + r).
    """
    count = len(xs)
    if count < FEWEST:
        return None
    middle_x, middle_y = fmean(xs), fmean(ys)
    spread = sum((x - middle_x) ** 2 for x in xs)
    if not spread:
        return None
    per = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / spread
    rests = [y - middle_y - per * (x - middle_x) for x, y in zip(xs, ys, strict=True)]
    squares = sum(rest * rest for rest in rests)
    if not squares:
        return Slope(per, 0.0)
    correlation = max(0.0, sum(a * b for a, b in pairwise(rests)) / squares)
    independent = count * (1 - correlation) / (1 + correlation)
    if independent <= 2:
        return Slope(per, inf)
    variance = squares / count * independent / (independent - 2)
    return Slope(per, T_95 * sqrt(variance / spread * count / independent))


def tenth(count: int) -> int:
    """How many of so many are a tenth; one at least."""
    return max(1, count // 10)


def first_and_last(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first and of the last tenth. A tenth's median does not move for one hiccup."""
    some = tenth(len(values))
    return median(values[:some]), median(values[-some:])
