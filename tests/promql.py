"""The part of PromQL that our dashboard uses, strictly, over two scrapes of one server. Pure.

As Prometheus has it (https://prometheus.io/docs/prometheus/latest/querying/basics/), but that it refuses, by
QueryError, what Prometheus would answer with nothing: a metric or a label that is not there, a rate of what is no
counter, buckets without `le`. `rate` is the difference of the two scrapes by the time between them, no more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping

from attrs import define, field, frozen
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Value = Vector | float

TOKEN = re.compile(r'\s*(?:(\d+(?:\.\d+)?)|([A-Za-z_:][\w:]*)|("[^"]*")|(=~|!~|!=|[-+*/(){}\[\],=]))')
DURATION = re.compile(r"\s*(\$__rate_interval|\d+[smh])\s*\]")


class QueryError(Exception):
    """A query that Prometheus would not answer with what its writer meant."""


@frozen
class Scrapes:
    """Samples of two scrapes, by name; with the labels `job` and `instance`, which Prometheus adds."""

    before: dict[str, Vector]
    after: dict[str, Vector]
    types: dict[str, str]
    apart_s: float

    @classmethod
    def of(cls, before: str, after: str, apart_s: float) -> Scrapes:
        """Read the text format."""
        (old, _), (new, types) = _samples(before), _samples(after)
        return cls(old, new, types, apart_s)

    def rise(self, name: str) -> Vector:
        """By how much each series rose; one that is new rose from 0."""
        old = self.before.get(name, {})
        return {labels: value - old.get(labels, 0.0) for labels, value in self.after[name].items()}


def _samples(text: str) -> tuple[dict[str, Vector], dict[str, str]]:
    found: dict[str, Vector] = {}
    types: dict[str, str] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = frozenset({**sample.labels, "job": "ngos", "instance": "localhost:8000"}.items())
            found.setdefault(sample.name, {})[labels] = sample.value
            types[sample.name] = family.type
    return found, types


def evaluate(query: str, scrapes: Scrapes) -> Value:
    """What the query comes to. Raises QueryError; a vector that is empty is one."""
    query = query.replace("$instance", ".*")
    parser = _Parser(query, scrapes)
    value = parser.expression()
    parser.end()
    if value == {}:
        raise QueryError(f"no answer: {query}")
    return value


@define
class _Parser:
    _text: str
    _scrapes: Scrapes
    _at: int = field(init=False, default=0)

    def _look(self) -> str:
        match = TOKEN.match(self._text, self._at)
        return match.group().strip() if match else ""

    def _take(self, *expected: str) -> str:
        match = TOKEN.match(self._text, self._at)
        token = match.group().strip() if match else self._text[self._at :]
        if match is None or (expected and token not in expected):
            raise QueryError(f"{token!r} at {self._at} of {self._text}")
        self._at = match.end()
        return token

    def end(self) -> None:
        if self._text[self._at :].strip():
            raise QueryError(f"{self._text[self._at :]!r} is left of {self._text}")

    def expression(self) -> Value:
        value = self._product()
        while self._look() in ("+", "-"):
            value = _combined(self._take(), value, self._product())
        return value

    def _product(self) -> Value:
        value = self._operand()
        while self._look() in ("*", "/"):
            value = _combined(self._take(), value, self._operand())
        return value

    def _operand(self) -> Value:
        token = self._look()
        if token == "(":
            self._take()
            value = self.expression()
            self._take(")")
            return value
        if token[:1].isdigit():
            return float(self._take())
        name = self._take()
        if name in AGGREGATIONS:
            return self._aggregate(name)
        if name in ("rate", "increase"):
            return self._rise(name)
        if name == "histogram_quantile":
            return self._quantile()
        kept = self._selected(name)
        if name.endswith(("_total", "_bucket", "_sum", "_count")):
            raise QueryError(f"{name} only ever rises: take its rate")
        return {labels: value for labels, value in self._scrapes.after[name].items() if labels in kept}

    def _aggregate(self, function: str) -> Vector:
        by: tuple[str, ...] = ()
        if self._look() == "by":
            self._take()
            by = self._names()
        self._take("(")
        value = self.expression()
        self._take(")")
        if not isinstance(value, dict):
            raise QueryError(f"{function} of a number")
        groups: dict[Labels, list[float]] = {}
        for labels, number in value.items():
            missing = set(by) - dict(labels).keys()
            if missing:
                raise QueryError(f"no label {', '.join(sorted(missing))} in {self._text}")
            groups.setdefault(frozenset((name, text) for name, text in labels if name in by), []).append(number)
        return {labels: AGGREGATIONS[function](numbers) for labels, numbers in groups.items()}

    def _names(self) -> tuple[str, ...]:
        names = []
        self._take("(")
        while self._look() != ")":
            names.append(self._take())
            if self._look() == ",":
                self._take()
        self._take(")")
        return tuple(names)

    def _rise(self, function: str) -> Vector:
        self._take("(")
        name = self._take()
        kept = self._selected(name)
        self._take("[")
        interval = DURATION.match(self._text, self._at)
        if interval is None:
            raise QueryError(f"no interval at {self._at} of {self._text}")
        self._at = interval.end()
        self._take(")")
        if self._scrapes.types[name] not in ("counter", "histogram"):
            raise QueryError(f"{name} is a {self._scrapes.types[name]}: it has no {function}")
        per_s = self._scrapes.apart_s if function == "rate" else 1.0
        return {labels: value / per_s for labels, value in self._scrapes.rise(name).items() if labels in kept}

    def _quantile(self) -> Vector:
        self._take("(")
        q = float(self._take())
        self._take(",")
        value = self.expression()
        self._take(")")
        if not isinstance(value, dict) or not 0 < q < 1:
            raise QueryError(f"not a quantile of buckets: {self._text}")
        buckets: dict[Labels, list[tuple[float, float]]] = {}
        for labels, count in value.items():
            bound = dict(labels).get("le")
            if bound is None:
                raise QueryError(f"buckets without le: {self._text}")
            rest = frozenset(pair for pair in labels if pair[0] != "le")
            buckets.setdefault(rest, []).append((float(bound), count))
        return {labels: _quantile(q, sorted(of_one)) for labels, of_one in buckets.items()}

    def _selected(self, name: str) -> set[Labels]:
        """The series that a selector takes; the name was read already."""
        known = self._scrapes.after.get(name)
        if known is None:
            raise QueryError(f"no metric {name}")
        kept = set(known)
        if self._look() == "{":
            self._take()
            while self._look() != "}":
                label, operator, text = self._take(), self._take("=", "!=", "=~", "!~"), self._take()[1:-1]
                if any(label not in dict(labels) for labels in known):
                    raise QueryError(f"{name} has no label {label}")
                kept = {labels for labels in kept if MATCHES[operator](text, dict(labels)[label])}
                if self._look() == ",":
                    self._take()
            self._take("}")
        if not kept:
            raise QueryError(f"nothing of {name} is selected by {self._text}")
        return kept


MATCHES: Mapping[str, Callable[[str, str], bool]] = {
    "=": lambda text, value: text == value,
    "!=": lambda text, value: text != value,
    "=~": lambda text, value: re.fullmatch(text, value) is not None,
    "!~": lambda text, value: re.fullmatch(text, value) is None,
}
AGGREGATIONS: Mapping[str, Callable[[Iterable[float]], float]] = {"sum": sum, "max": max}
OPERATIONS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else math.nan,
}


def _combined(operator: str, left: Value, right: Value) -> Value:
    """Of two vectors, those with the same labels."""
    operate = OPERATIONS[operator]
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            raise QueryError(f"{operator}: the two sides have other labels")
        return {labels: operate(value, right[labels]) for labels, value in left.items()}
    if isinstance(left, dict):
        return {labels: operate(value, right) for labels, value in left.items()}  # type: ignore[arg-type]
    if isinstance(right, dict):
        return {labels: operate(left, value) for labels, value in right.items()}
    return operate(left, right)


def _quantile(q: float, buckets: list[tuple[float, float]]) -> float:
    """Linear within a bucket, as Prometheus; NaN where nothing was counted."""
    if buckets[-1][0] != math.inf:
        raise QueryError("no bucket +Inf")
    rank = q * buckets[-1][1]
    if not rank:
        return math.nan
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            return low if bound == math.inf else low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    raise QueryError("buckets that fall")
