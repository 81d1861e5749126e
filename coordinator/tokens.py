"""The operator's tokens: who holds one, what it may do, and the file that keeps them.

A token is 256 random bits, so its SHA-256 gives nothing away: there is no guess to try, and a slow hash would only slow
every request. The file holds names, scopes and hashes; a token itself is shown once, when it is made. The server reads
the file again when it changes, so that `agenc token create` and `revoke` take effect at once.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from coordinator.logs import get_logger
from coordinator.settings import Settings

TOKENS_FILE = "admin-tokens"
MAX_TOKENS = 100
FIRST = "first"
#: The holder of the token that the settings carry (AGENC_ADMIN_TOKEN); no line of the file may take its name.
ENVIRONMENT = "environment"

_TOKEN_BYTES = 32
#: Lets scanners of repositories and logs know one when they see it.
_TOKEN_PREFIX = "agenc_"
_HEADER = "# The operator's tokens: NAME SCOPE sha256:HASH CREATED. Made by `agenc token create`.\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE = re.compile(r"(\S+) (read|operate|admin) sha256:([0-9a-f]{64}) (\S+)")

_log = get_logger("tokens")


class Scope(StrEnum):
    """What a token may do; each scope includes the ones before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def allows(self, needed: "Scope") -> bool:
        """Whether this scope is enough."""
        order = tuple(Scope)
        return order.index(self) >= order.index(needed)


class TokenError(Exception):
    """A token cannot be made or revoked; the message says why."""


@dataclass(frozen=True, slots=True)
class OperatorToken:
    """A token as it is kept: its holder's name, its scope, its SHA-256, and when it was made (RFC 3339)."""

    name: str
    scope: Scope
    digest: bytes
    created_at: str


class TokenFile:
    """The file `admin-tokens` of a data folder, for its owner alone (0600)."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / TOKENS_FILE

    def read(self, ignored: Callable[[int], None] | None = None) -> tuple[OperatorToken, ...]:
        """The tokens in it; a line that is none is left out, and `ignored` is told its number.

        Raises:
            OSError: the file is there and cannot be read.
        """
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ()
        tokens: dict[str, OperatorToken] = {}
        for number, line in enumerate(text.splitlines(), 1):
            line = line.partition("#")[0].strip()
            token = _parse(line) if line else None
            if token is not None and token.name not in tokens and len(tokens) < MAX_TOKENS:
                tokens[token.name] = token
            elif line and ignored is not None:
                ignored(number)
        return tuple(tokens.values())

    def create(self, name: str, scope: Scope) -> str:
        """Makes a token and keeps its hash. Returns the token, which cannot be shown again.

        Raises:
            TokenError: the name is taken or not one, or there are too many.
            OSError: the file cannot be written.
        """
        if not _NAME.fullmatch(name) or name == ENVIRONMENT:
            raise TokenError(f"{name[:80]!r} is no name for a token: letters, digits, . _ - and at most 64")
        with self._locked():
            tokens = self.read()
            if any(token.name == name for token in tokens):
                raise TokenError(f"there is a token {name!r} already: revoke it, or choose another name")
            if len(tokens) >= MAX_TOKENS:
                raise TokenError(f"there are {MAX_TOKENS} tokens already: revoke one")
            made = _TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
            created_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            self._write((*tokens, OperatorToken(name, scope, digest_of(made), created_at)))
        return made

    def revoke(self, name: str) -> None:
        """Forgets a token: from now on it is nobody's.

        Raises:
            TokenError: there is none of that name.
            OSError: the file cannot be written.
        """
        with self._locked():
            tokens = self.read()
            kept = tuple(token for token in tokens if token.name != name)
            if len(kept) == len(tokens):
                raise TokenError(f"there is no token {name[:80]!r}")
            self._write(kept)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time: two commands, or a command and a server's first start."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.path.with_name(TOKENS_FILE + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, tokens: Sequence[OperatorToken]) -> None:
        """Whole or not at all, and never readable for others, not even for a moment."""
        lines = [
            f"{token.name} {token.scope} sha256:{token.digest.hex()} {token.created_at}\n" for token in tokens
        ]
        unfinished = self.path.with_name(TOKENS_FILE + ".part")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_HEADER + "".join(lines))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.path)


class OperatorTokens:
    """The tokens in force: the settings' own, with scope admin, and the file's as it is now."""

    def __init__(self, *, setting: str | None, file: TokenFile) -> None:
        self._file = file
        self._fixed: tuple[OperatorToken, ...] = ()
        if setting is not None:
            self._fixed = (OperatorToken(ENVIRONMENT, Scope.ADMIN, digest_of(setting), ""),)
        self._stamp: tuple[int, int, int] | None = None
        self._from_file: tuple[OperatorToken, ...] = ()
        self._reload()

    @classmethod
    def open(cls, settings: Settings, folder: Path) -> tuple["OperatorTokens", str | None]:
        """The tokens, and the one that was made just now because there was none: show it once.

        Raises:
            OSError: the file cannot be read or written.
        """
        tokens = cls(setting=settings.optional_text("admin.token"), file=TokenFile(folder))
        if tokens.any():
            return tokens, None
        made = tokens._file.create(FIRST, Scope.ADMIN)
        tokens._reload()
        return tokens, made

    def any(self) -> bool:
        """Whether at least one token exists."""
        return bool(self._fixed or self._from_file)

    def holder_of(self, token: str) -> OperatorToken | None:
        """Whose token it is. Every known one is compared, in constant time, whichever matches."""
        self._reload()
        offered = digest_of(token)
        found = None
        for known in (*self._fixed, *self._from_file):
            if hmac.compare_digest(offered, known.digest):
                found = known
        return found

    def _reload(self) -> None:
        """Reads the file again when it has changed. One that cannot be read any more leaves what was known in force:
        the operator is not locked out by a full table of files, and revoking is a write, which succeeded or said so.
        """
        try:
            facts = self._file.path.stat()
        except FileNotFoundError:
            self._from_file, self._stamp = (), None
            return
        stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        if stamp == self._stamp:
            return
        if stat.S_IMODE(facts.st_mode) & 0o077:
            self._file.path.chmod(0o600)
        self._from_file = self._file.read(lambda line: _log.warning("token_line_ignored", line=line))
        self._stamp = stamp
        _log.info("tokens_read", names=[f"{token.name}:{token.scope}" for token in self._from_file])


def digest_of(token: str) -> bytes:
    """SHA-256 of a token, which is what is kept and compared."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _parse(line: str) -> OperatorToken | None:
    found = _LINE.fullmatch(line)
    if found is None or not _NAME.fullmatch(found[1]) or found[1] == ENVIRONMENT:
        return None
    return OperatorToken(found[1], Scope(found[2]), bytes.fromhex(found[3]), found[4])
