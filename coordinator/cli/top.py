"""`agenc top`: the console's figures in a terminal, once a second; plain lines where there is none."""

import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from coordinator.cli import target
from coordinator.cli.target import DataDirOption, UrlOption

if TYPE_CHECKING:
    from coordinator.answers_console import ConsoleAnswer, ConsoleSample, Figure

_STYLES = {"ok": "", "warning": "yellow", "critical": "bold red"}
_BARS = " ▁▂▃▄▅▆▇█"
#: Samples that the little charts show.
_WIDTH = 60
_RATE_S = 5


def top(
    once: Annotated[bool, typer.Option("--once", help="One look, in plain lines.")] = False,
    every_s: Annotated[
        float, typer.Option("--every", help="Seconds between two looks.", min=0.2, max=3600)
    ] = 1.0,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show how the system stands against the runbook's thresholds, until Ctrl-C."""
    console = Console()
    samples: deque[ConsoleSample] = deque(maxlen=_WIDTH * 2)
    with target.connected(target.require(url, data_dir)) as client:
        if once or not sys.stdout.isatty():
            while True:
                for line in plain(client.console()):
                    typer.echo(line)
                if once:
                    return
                time.sleep(every_s)
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                answer = client.console()
                samples.append(answer.sample)
                live.update(screen(answer, samples), refresh=True)
                time.sleep(every_s)


def plain(answer: "ConsoleAnswer") -> list[str]:
    """Lines for a pipe: a fact or a figure each."""
    now = answer.sample
    return [
        f"status {answer.status} score {answer.score:.2f} speculation {answer.speculation} mode {answer.mode} "
        f"rollout {answer.rollout_percentage} breaker {answer.breaker} chain {answer.connection}",
        f"open {now.open} queued {now.queued} commitments {now.pending} depth {now.depth} "
        f"confirmed {now.confirmed_total} rolled_back {sum(now.rollbacks_total.values())}",
        *(f"{one.name} {shown(one)} {one.level}" for one in answer.figures),
    ]


def screen(answer: "ConsoleAnswer", samples: "Sequence[ConsoleSample]") -> RenderableType:
    """All of it, for a terminal."""
    now = answer.sample
    facts = Text.assemble(
        (answer.status, "bold green" if answer.status == "healthy" else "bold red"),
        f"  speculation {answer.speculation}",
        f" ({answer.latch})" if answer.latch else "",
        f"  {answer.mode}, depth {answer.max_depth}, rollout {answer.rollout_percentage} %  breaker {answer.breaker}"
        f"  chain {answer.connection}, slot {answer.slot}  {answer.generator} proofs  {answer.at}",
    )
    trouble = answer.read_only or (answer.breaker_reason if answer.breaker == "open" else None)
    return Group(
        facts,
        Text(trouble or "", style="bold red"),
        _figures(answer.figures),
        Text(),
        _chart("confirmed/s", _rates(samples), now.confirmed_total),
        _chart("queued", [float(one.queued) for one in samples], now.queued),
        _chart("open", [float(one.open) for one in samples], now.open),
        _chart("depth", [float(one.depth) for one in samples], now.depth),
        Text(),
        _workers(answer),
        Text(f"rollbacks: {_reasons(now.rollbacks_total)}"),
        Text("Ctrl-C ends", style="dim"),
    )


def shown(figure: "Figure") -> str:
    """A figure's value with its unit."""
    return f"{figure.value:.1%}" if figure.unit == "share" else f"{figure.value:.2f}s"


def bars(values: Sequence[float]) -> str:
    """The last values as a line of blocks, the greatest full."""
    kept = list(values)[-_WIDTH:]
    most = max(kept, default=0.0)
    return "".join(_BARS[round(value / most * (len(_BARS) - 1))] if most else _BARS[0] for value in kept)


def _figures(figures: "Sequence[Figure]") -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("threshold", "now", "warning", "critical", ""):
        table.add_column(name, justify="left" if name in ("threshold", "") else "right", header_style="dim")
    for one in figures:
        unit = "%" if one.unit == "share" else "s"
        scale = 100 if one.unit == "share" else 1
        critical = "" if one.critical is None else f"{scale * one.critical:g} {unit}"
        word = "" if one.level == "ok" else f"{one.level}: {one.action}"
        table.add_row(
            one.label, shown(one), f"{scale * one.warning:g} {unit}", critical, word, style=_STYLES[one.level]
        )
    return table


def _workers(answer: "ConsoleAnswer") -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("worker", "state", "batch", "busy", "batches", "failures"):
        table.add_column(name, header_style="dim")
    for one in answer.workers:
        table.add_row(
            one.worker_id,
            one.state,
            one.batch_id or "",
            f"{one.utilization:.0%}",
            str(one.batches),
            str(one.failures),
        )
    return table


def _rates(samples: "Sequence[ConsoleSample]") -> list[float]:
    """Confirmed a second, over the samples of the last seconds before each."""
    rates = []
    for at in range(1, len(samples)):
        before = samples[max(0, at - _RATE_S)]
        passed_s = (samples[at].at_ms - before.at_ms) / 1000
        gained = samples[at].confirmed_total - before.confirmed_total
        rates.append(max(0.0, gained / passed_s) if passed_s > 0 else 0.0)
    return rates


def _chart(name: str, values: Sequence[float], total: int) -> Text:
    most = max(values, default=0.0)
    return Text.assemble((f"{name:<12}", "dim"), (bars(values), "blue"), f"  {total:,}  (most {most:,.1f})")


def _reasons(totals: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in totals.items()) or "none"
