"""The main job from the command line: the shipped example, real proofs, both ways, nothing left behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.cli.main import invoke

AGENC = [sys.executable, "-m", "coordinator.cli.main"]

pytestmark = pytest.mark.xdist_group("system")


@pytest.mark.timeout(420)
@pytest.mark.usefixtures("nothing_left_behind")
def test_the_example_is_confirmed_both_ways_and_faster_with_speculation(tmp_path: Path) -> None:
    report_path, out = tmp_path / "report.json", tmp_path / "out"
    arguments = ["run", "--report", str(report_path), "--out", str(out)]
    done = subprocess.run([*AGENC, *arguments], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(report_path.read_text())
    without, speculating = report["runs"]
    for run in report["runs"]:
        assert run["confirmed"] == report["tasks"] == 25
        assert run["rolled_back"] == run["failed"] == run["skipped"] == 0
        assert len(run["invariants"]) == 8
        assert all(run["invariants"].values())
        assert run["stake_conserved"]
        assert run["makespan_s"] >= run["critical_path_s"] > 3
        assert run["permutations"] > 25 * 11
        receipts = sorted(Path(run["receipts"]).iterdir())
        assert len(receipts) == 25
    assert (without["speculation"], speculating["speculation"]) == (False, True)
    assert without["denials"].keys() == {"disabled"}
    assert speculating["batches"] < without["batches"]
    assert report["speedup"] > 1
    assert "speedup" in done.stdout
    assert invoke(["verify", str(Path(speculating["receipts"]) / "redact.json")]) == 0
    tampered = json.loads((Path(speculating["receipts"]) / "redact.json").read_text())
    tampered["statement"]["task_id"] = "notify"
    changed = tmp_path / "tampered.json"
    changed.write_text(json.dumps(tampered))
    assert invoke(["verify", str(changed)]) == 1


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("nothing_left_behind")
def test_ctrl_c_stops_a_replay_and_all_that_it_started(tmp_path: Path) -> None:
    import signal

    out = tmp_path / "out"
    running = subprocess.Popen(
        [*AGENC, "run", "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    for line in running.stdout:
        if "the agents work" in line:
            break
    running.send_signal(signal.SIGINT)
    _, complaint = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in complaint


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("nothing_left_behind")
def test_a_real_workflow_of_203_tasks_is_three_times_as_fast(shared_dir: Path, tmp_path: Path) -> None:
    workflow = shared_dir / "data" / "workflows" / "viralrecon-dirt02-001.json"
    report_path = tmp_path / "report.json"
    arguments = ["run", str(workflow), "--time-scale", "0.002", "--report", str(report_path)]
    done = subprocess.run(
        [*AGENC, *arguments, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(report_path.read_text())
    assert [run["confirmed"] for run in report["runs"]] == [203, 203]
    assert report["speedup"] >= 3


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("nothing_left_behind")
def test_a_real_workflow_with_a_lie_a_refusal_and_a_killed_worker(shared_dir: Path, tmp_path: Path) -> None:
    workflow = shared_dir / "data" / "workflows" / "viralrecon-dirt02-001.json"
    tasks = json.loads(workflow.read_text())["workflow"]["specification"]["tasks"]
    lied, refused = (
        next(task["id"] for task in tasks if task["parents"] and len(task["children"]) == children)
        for children in (2, 1)
    )
    report_path = tmp_path / "report.json"
    faults = [f"lie@op:{lied}", f"reject@op:{refused}", "kill-worker@batch:2"]
    arguments = ["run", str(workflow), "--time-scale", "0.002", "--report", str(report_path)]
    for fault in faults:
        arguments += ["--fault", fault]
    done = subprocess.run(
        [*AGENC, *arguments, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for run in json.loads(report_path.read_text())["runs"]:
        assert run["complaints"] == []
        assert run["failed"] >= 1
        assert run["confirmed"] + run["rolled_back"] + run["failed"] + run["skipped"] == 203
        assert run["stake_conserved"]
