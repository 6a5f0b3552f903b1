"""What `ngos status` shows: rates and latencies, out of two answers of a server.

What clients and the server said is shown with control characters replaced: it could steer the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import accumulate
from typing import Any, Final

import orjson
import trio
from attrs import frozen
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ngos.client.errors import ConnectFailed
from ngos.client.fetch import get_json
from ngos.terminal import harmless

PATH: Final = "/status"
ANSWER_S: Final = 5.0
SHOWN_TOPICS: Final = 20
ASKS: Final = 64
"""How often it is asked, until the node answers that did before: of several workers, any takes a request."""


@frozen
class Report:
    """A server at one moment, and what it did since one before. All as JSON has it."""

    now: dict[str, Any]
    over_s: float
    rates: dict[str, float]
    latencies: dict[str, dict[str, float | None]]
    topics: list[dict[str, Any]]
    talkers: list[dict[str, Any]]

    @classmethod
    def between(cls, before: Mapping[str, Any], now: dict[str, Any]) -> Report:
        """Raises KeyError, TypeError or ValueError where an answer is not what `/status` tells."""
        over_s = max(now["at_s"] - before["at_s"], 1e-9)

        def per_s(early: Mapping[str, Any], late: Mapping[str, Any], name: str) -> float:
            grown: float = max(0, late[name] - early.get(name, late[name]))
            return round(float(grown / over_s), 1)

        topics_before = {topic["topic"]: topic for topic in before["topics"]}
        talkers_before = {talker["connection_id"]: talker for talker in before["talkers"]}
        return cls(
            now,
            over_s,
            {name: per_s(before["counts"], now["counts"], name) for name in now["counts"]},
            {name: _latency(before["seconds"].get(name), spread) for name, spread in now["seconds"].items()},
            [
                {**topic, "events_per_s": per_s(topics_before.get(topic["topic"], {}), topic, "events")}
                for topic in now["topics"]
            ],
            [
                {**talker, "commands_per_s": per_s(talkers_before.get(talker["connection_id"], {}), talker, "commands")}
                for talker in now["talkers"]
            ],
        )

    def to_json(self) -> bytes:
        """One line for programs."""
        told = {key: value for key, value in self.now.items() if key not in ("at_s", "seconds", "counts")}
        rates = {f"{name}_per_s": rate for name, rate in self.rates.items()}
        told |= {"over_s": round(self.over_s, 3), "counts": self.now["counts"], "rates": rates}
        return orjson.dumps({**told, "latencies": self.latencies, "topics": self.topics, "talkers": self.talkers})


def _latency(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> dict[str, float | None]:
    """How many there were, and quantiles as upper bounds, in seconds; of who knows none, since the start."""
    counts: Sequence[int] = now["counts"]
    if before is not None and sum(before["counts"]) < sum(counts):
        counts = [late - early for early, late in zip(before["counts"], counts, strict=True)]
    total = sum(counts)
    bounds = [*now["bounds"], None]

    def quantile(share: float) -> float | None:
        upto = zip(accumulate(counts), bounds, strict=True)
        return next((bound for reached, bound in upto if reached >= share * total), None) if total else None

    return {"count": total, "p50_s": quantile(0.5), "p99_s": quantile(0.99)}


async def look(url: str, token: str | None, over_s: float) -> Report:
    """Ask twice, `over_s` seconds apart. Raises ConnectFailed."""
    before = await get_json(url, PATH, token, ANSWER_S)
    await trio.sleep(over_s)
    return _report(url, before, await _ask_again(url, token, before))


async def _ask_again(url: str, token: str | None, before: Mapping[str, Any]) -> dict[str, Any]:
    """What the same node tells, whose counts these are: rates of two nodes would be of none."""
    for _ in range(ASKS):
        now = await get_json(url, PATH, token, ANSWER_S)
        if _node_of(now) == _node_of(before):
            break
    return now


def _node_of(told: object) -> object:
    node = told.get("node") if isinstance(told, dict) else None
    return node.get("id") if isinstance(node, dict) else None


async def watch(url: str, token: str | None, over_s: float, console: Console) -> None:
    """Show it again and again, until cancelled: in place on a terminal, else one below the other.

    Raises ConnectFailed when the server is gone.
    """
    before = await get_json(url, PATH, token, ANSWER_S)
    with (
        Live(Text("…"), console=console, auto_refresh=False, screen=True)
        if console.is_terminal
        else nullcontext() as live
    ):
        while True:
            await trio.sleep(over_s)
            now = await _ask_again(url, token, before)
            shown = table(url, _report(url, before, now))
            if live is None:
                console.print(shown)
            else:
                live.update(shown, refresh=True)
            before = now


def _report(url: str, before: Mapping[str, Any], now: dict[str, Any]) -> Report:
    try:
        report = Report.between(before, now)
        table(url, report)  # an answer that can't be shown is none, whichever way it is to be shown
        return report
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ConnectFailed(url, "what it answered is no status of ngos: is it another version?") from exc


def table(url: str, report: Report) -> RenderableType:
    """For people."""
    now, rates = report.now, report.rates
    ready = "ready" if not now["reasons"] else f"NOT READY: {', '.join(now['reasons'])}"
    up_s = int(now["uptime_s"])
    up = f"{up_s // 3600}:{up_s // 60 % 60:02}:{up_s % 60:02}"
    head = _text(f"ngos {now['server']['version']} at {url}, up {up}, {ready}")
    pool, node = now["pool"], now["node"]
    facts = Table.grid(padding=(0, 2))
    for name, text in (
        ("node", f"{node['id']}, one of {node['nodes']:,}; backplane: {node['backplane']}"),
        ("connections", f"{now['connections']:,}"),
        ("topics", f"{now['topic_count']:,} with {now['subscriptions']:,} subscriptions"),
        ("commands", f"{rates['commands']:,}/s, {rates['errors']:,}/s of them errors"),
        ("events", f"{rates['events']:,}/s, {rates['deliveries']:,}/s delivered, {rates['commits']:,}/s commits"),
        ("latency", _latencies(report.latencies)),
        ("waiting", f"{now['mailbox_bytes']:,} bytes for clients; {now['counts']['slow_consumers']:,} were too slow"),
        ("pool", f"{pool['used']} used, {pool['idle']} idle, of {pool['max']}; {pool['waiting']} tasks wait"),
    ):
        facts.add_row(name, _text(text))
    parts: list[RenderableType] = [head, facts]
    topics = Table("topic", "epoch", "seq", "subscribers", "events/s", box=None, padding=(0, 2, 0, 0))
    shown = {topic["topic"] for topic in report.topics}
    for topic in report.topics[:SHOWN_TOPICS]:
        seq = "" if topic["seq"] is None else f"{topic['seq']:,}"
        topics.add_row(
            _text(topic["topic"]),
            _text(topic["epoch"] or ""),
            seq,
            f"{topic['subscribers']:,}",
            f"{topic['events_per_s']:,}",
        )
    for name, seq in now["heads"].items():
        if name not in shown:
            topics.add_row(_text(name), "", f"{seq:,}", "0", "")
    parts += [Text(), topics]
    if report.talkers:
        talkers = Table("client", "commands", "commands/s", "bytes waiting", "since", box=None, padding=(0, 2, 0, 0))
        for talker in report.talkers:
            talkers.add_row(
                _text(talker["client_id"]),
                f"{talker['commands']:,}",
                f"{talker['commands_per_s']:,}",
                f"{talker['waiting_bytes']:,}",
                _text(talker["connected_at"][:19]),
            )
        parts += [Text(), talkers]
    if now["waited_for"]:
        slow = Table("most waits for", "bytes waiting", "subscriptions", box=None, padding=(0, 2, 0, 0))
        for client in now["waited_for"]:
            slow.add_row(_text(client["client_id"]), f"{client['waiting_bytes']:,}", f"{client['subscriptions']:,}")
        parts += [Text(), slow]
    return Group(*parts)


def _text(said: str) -> Text:
    """What others said, as it is: no markup, and nothing that a terminal obeys."""
    return Text(harmless(said))


def _latencies(latencies: Mapping[str, Mapping[str, float | None]]) -> str:
    """As `delivery 1/4 ms`: half of them, and 99 of 100, took at most so long."""

    def ms(value: float | None) -> str:
        return "-" if value is None else f"{value * 1000:g}"

    texts = [f"{name.replace('_', ' ')} {ms(of['p50_s'])}/{ms(of['p99_s'])}" for name, of in latencies.items()]
    return ", ".join(texts) + " ms (p50/p99, at most)"
