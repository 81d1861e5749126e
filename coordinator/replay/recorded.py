"""Recordings from where runs are kept: a data folder that nobody serves, or a report of `agenc run`."""

from pathlib import Path

import msgspec

from coordinator.core.recording import Recording, record
from coordinator.settings import Settings
from coordinator.store.log import LOG_FILE, EventLog
from coordinator.store.restart import restore


class NoRecording(Exception):
    """There is nothing to run again, and why."""


class _Run(msgspec.Struct):
    recording: Recording | None = None


class _Report(msgspec.Struct):
    runs: list[_Run]


def of_folder(folder: Path) -> Recording:
    """What a data folder holds. Blocks.

    Raises:
        NoRecording: no log, or nothing was confirmed.
        StoreError: the folder is served by somebody, or cannot be read.
    """
    if not (folder / LOG_FILE).exists():
        raise NoRecording(f"{folder} holds no log")
    log = EventLog.open(folder)
    try:
        found = record(restore(log).state, Settings.load("test", None, {}).core_config())
    finally:
        log.close()
    if found is None:
        raise NoRecording(f"nothing was confirmed in {folder}")
    return found


def of_report(path: Path) -> Recording:
    """The last run of a report of `agenc run --report`, which is the one with speculation.

    Raises:
        NoRecording: it is no such report, or was made against a running system, whose log it could not read.
        OSError: the file cannot be read.
    """
    try:
        report = msgspec.json.decode(path.read_bytes(), type=_Report)
    except msgspec.DecodeError as error:
        raise NoRecording(f"{path} is no report of agenc run: {error}") from None
    found = next((run.recording for run in reversed(report.runs) if run.recording is not None), None)
    if found is None:
        raise NoRecording(f"{path} holds no recording: agenc run --report, without --url, makes one")
    return found
