"""docs/MONITORING.md and docs/SECURITY.md: commands run as printed, figures and links are true."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.cli.exposure import MIN_TOKEN_CHARS
from coordinator.cli.main import invoke
from coordinator.http.auth import FailureLimiter
from coordinator.http.wire import BODY_TIMEOUT_S, MAX_VALUES, SMALL_BODY_BYTES
from coordinator.settings_table import KEYS
from coordinator.tokens import Scope, TokenFile
from tests.conftest import REPOSITORY
from workers import http_server

PAGES = ("MONITORING.md", "SECURITY.md")


def page(name: str) -> str:
    return (REPOSITORY / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_the_shell_blocks_run_as_printed(name: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```$", page(name), re.DOTALL | re.MULTILINE)
    script = "set -e\n" + "".join(blocks)
    if "promtool" in script and shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {
        "PATH": programs,
        "AGENC_DATA_DIR": str(tmp_path),
        "PYTHONPATH": str(REPOSITORY),
    }
    ran = subprocess.run(
        ["bash", "-c", script], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    made = {token.name: token.scope for token in TokenFile(tmp_path).read()}
    assert made == ({"prometheus": Scope.READ} if name == "MONITORING.md" else {})


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files(name: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page(name)):
        assert (REPOSITORY / "docs" / target).is_file(), target
    for target in re.findall(r"`((?:deploy|coordinator)/[\w./-]+)`", page(name)):
        assert (REPOSITORY / target).exists(), target


def test_the_limits_are_those_in_force() -> None:
    text = page("SECURITY.md")
    for told in (
        f"| {http_server.MAX_HEAD_BYTES // 1024} KiB together, then 431 |",
        f"| {http_server.HEAD_TIMEOUT_S:.0f} s, then 408 |",
        f"| time for its body | {BODY_TIMEOUT_S:.0f} s |",
        f"| {SMALL_BODY_BYTES >> 20} MiB; batches `admin.max_body_bytes` (64 MiB); {MAX_VALUES:,} JSON values |",
        f"| {http_server.STALL_TIMEOUT_S:.0f} s, then the connection is cut |",
        f"| connections | {http_server.MAX_CONNECTIONS:,} a port |",
        f"of at least {MIN_TOKEN_CHARS} characters",
    ):
        assert told in text, told
    assert KEYS["admin.max_body_bytes"].default == 64 << 20
    assert (FailureLimiter.burst, FailureLimiter.refill_s) == (30, 1.0), (
        "thirty, and a second for each further one"
    )
    assert BODY_TIMEOUT_S < http_server.BODY_TIMEOUT_S, "the typed error comes first"


def test_the_exposed_start_is_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its options are taken; the certificate that it names is not here."""
    (line,) = re.findall(r"^agenc (up --host .*)$", page("SECURITY.md"), re.MULTILINE)
    assert invoke([*line.split(), "--data-dir", str(tmp_path / "data")]) == 2
    assert capsys.readouterr().err.startswith("agenc: TLS: server.pem")


def test_every_scope_is_explained() -> None:
    for scope in Scope:
        assert f"| `{scope}` |" in page("SECURITY.md")
