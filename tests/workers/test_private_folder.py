"""The private folder: closed to others, removed by its owner, or by the next one when its owner was killed."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from workers.messages import StartError, StartErrorCode
from workers.private_folder import PrivateFolder

OWNER = """
import os, signal, sys
from pathlib import Path
from workers.private_folder import PrivateFolder

(PrivateFolder(Path(sys.argv[1]), longest_bytes=1000).path / "left").write_text("behind")
os.kill(os.getpid(), signal.SIGKILL)
"""


def follow(folder: Path) -> "subprocess.Popen[str]":
    """A process that has a file of the folder open."""
    code = "import sys, time; log = open(sys.argv[1], 'w'); print('open', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "log")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == "open\n"
    return process


def test_only_this_user_enters(tmp_path: Path) -> None:
    folder = PrivateFolder(tmp_path, longest_bytes=1000)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_owner_is_cleaned_up_after_and_a_living_one_is_left_alone(tmp_path: Path) -> None:
    living = PrivateFolder(tmp_path, longest_bytes=1000)
    user = follow(living.path)
    (tmp_path / "agenc-ray-strange").mkdir()
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", OWNER, str(tmp_path)], cwd=root, check=False)
    (left,) = tmp_path.glob("agenc-ray-*/left")
    helper = follow(left.parent)
    next_one = PrivateFolder(tmp_path, longest_bytes=1000)
    assert list(tmp_path.glob("agenc-ray-*/left")) == []
    assert helper.wait(10) == -signal.SIGKILL
    assert user.poll() is None
    user.kill()
    user.wait()
    assert set(tmp_path.iterdir()) == {living.path, next_one.path, tmp_path / "agenc-ray-strange"}


def test_a_path_too_long_for_sockets_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StartError) as told:
        PrivateFolder(tmp_path, longest_bytes=len(str(tmp_path)))
    assert told.value.code is StartErrorCode.TEMPORARY_PATH_TOO_LONG
    assert list(tmp_path.iterdir()) == []
