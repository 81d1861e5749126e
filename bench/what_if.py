"""How well does `agenc what-if` predict? Predicted against measured, from two runs of the example workflow.

Both modes of `agenc run` are recorded. Each is predicted from its own recording (how true the simulated time is), and
the one without speculation from the other's (how true a what-if is). Prints predicted / measured, and writes
bench/results/what-if.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from coordinator.core.recording import Outcome, Question, Recording, predict
from coordinator.settings import Settings, default_config_dir

RESULTS = Path(__file__).resolve().parent / "results"
FIGURES = ("p50_ms", "p99_ms", "operations_per_s", "makespan_ms")


def record(time_scale: float) -> tuple[Recording, Recording]:
    """The recordings of a run without and of one with speculation."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "coordinator.cli.main", "run", "--time-scale", str(time_scale)]
        command += ["--report", str(report), "--out", f"{folder}/run"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        runs = json.loads(report.read_bytes())["runs"]
    without, speculating = (msgspec.convert(run["recording"], Recording) for run in runs)
    return without, speculating


def errors(predicted: Outcome, measured: Outcome) -> Mapping[str, float]:
    """Predicted over measured, less one."""
    return {name: round(getattr(predicted, name) / getattr(measured, name) - 1.0, 3) for name in FIGURES}


def main() -> None:
    """Runs, predicts, compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--time-scale", type=float, default=0.3)
    arguments = parser.parse_args()
    config = Settings.load("dev", default_config_dir(), {}).core_config()
    without, speculating = record(arguments.time_scale)
    cases = {
        "no speculation, from itself": (without, Question(), without.measured),
        "speculation, from itself": (speculating, Question(), speculating.measured),
        "no speculation, from the run with": (speculating, Question(depth=0), without.measured),
    }
    rows: dict[str, Any] = {}
    print(f"{'':<36}{'p50':>16}{'p99':>16}{'ops/s':>16}")
    for name, (recording, question, measured) in cases.items():
        predicted = predict(recording, config, question)
        rows[name] = {
            "predicted": msgspec.to_builtins(predicted),
            "measured": msgspec.to_builtins(measured),
            "error": errors(predicted, measured),
        }
        pairs = (
            f"{predicted.p50_ms / 1e3:.2f} / {measured.p50_ms / 1e3:.2f} s",
            f"{predicted.p99_ms / 1e3:.2f} / {measured.p99_ms / 1e3:.2f} s",
            f"{predicted.operations_per_s:.2f} / {measured.operations_per_s:.2f}",
        )
        print(f"{name:<36}" + "".join(f"{pair:>16}" for pair in pairs))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "what-if.json").write_text(
        json.dumps({"time_scale": arguments.time_scale, "cases": rows}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
