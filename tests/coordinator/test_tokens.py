"""The operator's tokens: made and shown once, kept as hashes for the owner alone, in force and gone at once."""

import re
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.cli.main import invoke
from coordinator.settings import Settings
from coordinator.tokens import (
    ENVIRONMENT,
    MAX_TOKENS,
    TOKENS_FILE,
    OperatorToken,
    OperatorTokens,
    Scope,
    TokenError,
    TokenFile,
    digest_of,
)


def settings(token: str | None = None) -> Settings:
    return Settings.load("test", None, {} if token is None else {"AGENC_ADMIN_TOKEN": token})


def holder(tokens: OperatorTokens, token: str) -> tuple[str, Scope] | None:
    found = tokens.holder_of(token)
    return None if found is None else (found.name, found.scope)


class TestFile:
    def test_only_the_hash_is_kept(self, tmp_path: Path) -> None:
        made = TokenFile(tmp_path).create("alice", Scope.OPERATE)
        assert len(made) > 40
        text = (tmp_path / TOKENS_FILE).read_text()
        assert made not in text
        assert digest_of(made).hex() in text
        (kept,) = TokenFile(tmp_path).read()
        assert (kept.name, kept.scope, kept.digest) == ("alice", Scope.OPERATE, digest_of(made))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", kept.created_at)

    def test_it_is_for_the_owner_alone(self, tmp_path: Path) -> None:
        TokenFile(tmp_path / "data").create("alice", Scope.READ)
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        for path in (tmp_path / "data").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path

    @pytest.mark.parametrize("name", ["", "a b", "x" * 65, "-a", "a\nb", "a#b", ENVIRONMENT, "ä", "a/b"])
    def test_a_name_that_is_none(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(TokenError):
            TokenFile(tmp_path).create(name, Scope.READ)

    def test_a_name_is_taken_until_it_is_revoked(self, tmp_path: Path) -> None:
        file = TokenFile(tmp_path)
        first = file.create("alice", Scope.READ)
        with pytest.raises(TokenError, match="already"):
            file.create("alice", Scope.ADMIN)
        file.revoke("alice")
        with pytest.raises(TokenError, match="no token"):
            file.revoke("alice")
        assert file.create("alice", Scope.READ) != first

    def test_there_is_an_end_to_them(self, tmp_path: Path) -> None:
        digest = "0" * 64
        lines = [f"n{at} read sha256:{digest} now\n" for at in range(MAX_TOKENS + 5)]
        (tmp_path / TOKENS_FILE).write_text("".join(lines))
        assert len(TokenFile(tmp_path).read()) == MAX_TOKENS
        with pytest.raises(TokenError, match="revoke one"):
            TokenFile(tmp_path).create("one-more", Scope.READ)

    def test_commands_at_the_same_time_lose_none(self, tmp_path: Path) -> None:
        makers = [
            threading.Thread(target=TokenFile(tmp_path).create, args=(f"holder-{at}", Scope.READ))
            for at in range(16)
        ]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
        assert {token.name for token in TokenFile(tmp_path).read()} == {f"holder-{at}" for at in range(16)}

    @given(st.text(max_size=400))
    def test_any_text_is_read_without_an_error(
        self, tmp_path_factory: pytest.TempPathFactory, text: str
    ) -> None:
        folder = tmp_path_factory.mktemp("tokens")
        (folder / TOKENS_FILE).write_text(text, encoding="utf-8", errors="surrogatepass")
        assert isinstance(TokenFile(folder).read(), tuple)

    def test_a_token_in_the_clear_is_not_one(self, tmp_path: Path) -> None:
        (tmp_path / TOKENS_FILE).write_text("alice hunter2\nhunter3\n")
        assert TokenFile(tmp_path).read() == ()

    def test_a_comment_may_follow(self, tmp_path: Path) -> None:
        (tmp_path / TOKENS_FILE).write_text(
            f"# night shift\n\nalice admin sha256:{'ab' * 32} now # until May\n"
        )
        assert TokenFile(tmp_path).read() == (OperatorToken("alice", Scope.ADMIN, b"\xab" * 32, "now"),)


class TestInForce:
    def test_the_settings_token_is_an_admins(self, tmp_path: Path) -> None:
        tokens, made = OperatorTokens.open(settings("hunter2"), tmp_path)
        assert made is None
        assert holder(tokens, "hunter2") == (ENVIRONMENT, Scope.ADMIN)
        assert holder(tokens, "hunter3") is None
        assert not (tmp_path / TOKENS_FILE).exists()

    def test_without_any_one_is_made_once(self, tmp_path: Path) -> None:
        tokens, made = OperatorTokens.open(settings(), tmp_path / "data")
        assert made is not None
        assert holder(tokens, made) == ("first", Scope.ADMIN)
        again, made_again = OperatorTokens.open(settings(), tmp_path / "data")
        assert made_again is None
        assert holder(again, made) == ("first", Scope.ADMIN)

    def test_made_and_revoked_while_it_runs(self, tmp_path: Path) -> None:
        tokens, _ = OperatorTokens.open(settings("hunter2"), tmp_path)
        file = TokenFile(tmp_path)
        alice, bob = file.create("alice", Scope.READ), file.create("bob", Scope.OPERATE)
        assert (holder(tokens, alice), holder(tokens, bob)) == (("alice", Scope.READ), ("bob", Scope.OPERATE))
        file.revoke("bob")
        assert holder(tokens, bob) is None
        (tmp_path / TOKENS_FILE).unlink()
        assert holder(tokens, alice) is None
        assert holder(tokens, "hunter2") == (ENVIRONMENT, Scope.ADMIN)

    def test_a_file_that_others_can_read_is_closed(self, tmp_path: Path) -> None:
        TokenFile(tmp_path).create("alice", Scope.READ)
        (tmp_path / TOKENS_FILE).chmod(0o644)
        OperatorTokens.open(settings(), tmp_path)
        assert stat.S_IMODE((tmp_path / TOKENS_FILE).stat().st_mode) == 0o600

    def test_an_empty_token_and_a_hash_are_nobodys(self, tmp_path: Path) -> None:
        made = TokenFile(tmp_path).create("alice", Scope.READ)
        tokens, _ = OperatorTokens.open(settings(), tmp_path)
        assert holder(tokens, "") is None
        assert holder(tokens, digest_of(made).hex()) is None


class TestCommands:
    def test_create_list_revoke(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = ["--data-dir", str(tmp_path)]
        assert invoke(["token", "create", "grafana", "--scope", "read", *folder]) == 0
        made = capsys.readouterr().out.strip()
        tokens, _ = OperatorTokens.open(settings(), tmp_path)
        assert holder(tokens, made) == ("grafana", Scope.READ)
        capsys.readouterr()
        assert invoke(["token", "list", *folder]) == 0
        listed = capsys.readouterr().out
        assert listed.startswith("grafana\tread\t")
        assert made not in listed
        assert invoke(["token", "revoke", "grafana", *folder]) == 0
        assert holder(tokens, made) is None

    @pytest.mark.parametrize(
        "arguments", [["create", "a b"], ["create", "a", "--scope", "root"], ["revoke", "nobody"]]
    )
    def test_what_cannot_be_is_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
    ) -> None:
        assert invoke(["token", *arguments, "--data-dir", str(tmp_path)]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("agenc: ")
        assert captured.err.count("\n") == 1
        assert captured.out == ""
