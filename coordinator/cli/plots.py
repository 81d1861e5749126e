"""PNG plots of benchmark figures: throughput against size, a roofline, phases stacked by case."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.cli.sweeps import Point

_SIZE_INCHES = (7, 4.2)


def _figure() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")  # no screen is needed
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=_SIZE_INCHES, layout="constrained")


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def plot_throughput(points: "Sequence[Point]", path: Path, *, title: str) -> Path:
    """Units a second against size, a line for each kernel."""
    figure, axes = _figure()
    lines: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        lines[point.kernel].append(point)
    for kernel, line in lines.items():
        axes.plot([p.size for p in line], [p.units_per_s for p in line], marker="o", label=kernel)
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="batch size", ylabel=f"{points[0].unit} per second", title=title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return _save(figure, path)


def plot_roofline(points: "Sequence[Point]", path: Path, *, bandwidth: float, title: str) -> Path:
    """Multiplications a second against multiplications a byte, under the memory's slope."""
    figure, axes = _figure()
    for kernel in dict.fromkeys(point.kernel for point in points):
        line = [point for point in points if point.kernel == kernel]
        xs = [point.multiplications_per_byte for point in line]
        axes.scatter(xs, [point.multiplications / point.best_s for point in line], label=kernel)
    low = min(point.multiplications_per_byte for point in points) / 2
    high = max(point.multiplications_per_byte for point in points) * 2
    slope_label = f"one thread's copy, {bandwidth / 1e9:.1f} GB/s"
    axes.plot(
        [low, high], [low * bandwidth, high * bandwidth], linestyle="--", color="grey", label=slope_label
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(
        xlabel="field multiplications per byte moved", ylabel="field multiplications per second", title=title
    )
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    return _save(figure, path)


def plot_phases(cases: Mapping[str, Mapping[str, float]], path: Path, *, title: str) -> Path:
    """Seconds of each phase, stacked, a bar for each case."""
    figure, axes = _figure()
    left = dict.fromkeys(cases, 0.0)
    for phase in dict.fromkeys(phase for phases in cases.values() for phase in phases):
        seconds = [phases.get(phase, 0.0) for phases in cases.values()]
        axes.barh(list(cases), seconds, left=list(left.values()), label=phase)
        for name, more in zip(cases, seconds, strict=True):
            left[name] += more
    axes.invert_yaxis()
    axes.set(xlabel="seconds", title=title)
    axes.legend(ncols=4, fontsize="small")
    return _save(figure, path)
