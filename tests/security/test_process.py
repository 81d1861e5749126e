"""A real `agenc up` with TLS, known secrets and everything logged: where it listens, whom its client trusts, and that
no secret is in anything it says or keeps.
"""

import base64
import gzip
import ipaddress
import json
import os
import shutil
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from coordinator.cli.main import invoke
from coordinator.client.errors import ApiError, Unreachable
from coordinator.client.retry import NO_RETRY
from coordinator.client.sync import Client
from coordinator.core.states import OperationState
from coordinator.submission import OperationBody
from coordinator.tokens import Scope, TokenFile
from workers.statement import agent_key

AGENC = [sys.executable, "-m", "coordinator.cli.main"]
PATIENCE_S = 120.0
#: `needle` is in none of the program's own words.
NEEDLE = b"needle-"
GZIP = b"\x1f\x8b"

pytestmark = [pytest.mark.xdist_group("system"), pytest.mark.timeout(300)]


@dataclass
class Server:
    """A running process and what it was given."""

    process: subprocess.Popen[bytes]
    data: Path
    said: Path
    authority: Path
    endpoints: dict[str, str]
    token: str

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))

    def client(self, token: str | None = None) -> Client:
        return Client(self.endpoints["url"], token=token, tls=self.trusting(), retry=NO_RETRY)

    def http(self) -> httpx.Client:
        return httpx.Client(verify=self.trusting(), timeout=60)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed one for localhost and 127.0.0.1, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "server.pem", folder / "server.key"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=localhost", "-addext", names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def server(certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    data, said = folder / "data", folder / "said"
    token = (NEEDLE + os.urandom(16).hex().encode()).decode()
    options = ["--port", "0", "--workers-port", "0", "--data-dir", str(data)]
    options += ["--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1])]
    environment = os.environ | {
        "AGENC_ADMIN_TOKEN": token,
        "AGENC_LOG_LEVEL": "debug",
        "AGENC_CHAIN_SLOT_MS": "50",
        "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
        "AGENC_SPECULATION_PROOF_WORKER_THREADS": "1",
    }
    with said.open("wb") as output:
        process = subprocess.Popen([*AGENC, "up", *options], env=environment, stdout=output, stderr=output)
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while not (data / "endpoints.json").exists():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline_s, said.read_text()
            time.sleep(0.1)
        endpoints = json.loads((data / "endpoints.json").read_text())
        yield Server(process, data, said, certificate[0], endpoints, token)
    finally:
        process.terminate()
        process.wait(60)


def test_nothing_listens_beyond_this_machine(server: Server) -> None:
    family = [
        psutil.Process(server.process.pid),
        *psutil.Process(server.process.pid).children(recursive=True),
    ]
    assert any("raylet" in one.name() for one in family), "Ray runs"
    listening = {
        connection.laddr.ip
        for one in family
        for connection in one.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening, "the ports are open"
    for address in map(ipaddress.ip_address, listening):
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        assert (mapped or address).is_loopback, address


def test_both_ports_speak_tls_to_who_trusts_their_certificate(server: Server) -> None:
    with server.http() as http:
        for name in ("url", "workers_url"):
            url = server.endpoints[name]
            assert url.startswith("https://")
            answer = http.get(f"{url}/health")
            assert answer.is_success
        assert http.get(server.endpoints["url"] + "/health").headers["strict-transport-security"]
    with server.client() as client:
        assert client.health().status == "healthy"


def test_what_it_keeps_is_for_its_owner_alone(server: Server) -> None:
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    for path in server.data.rglob("*"):
        if path.name != "endpoints.json":
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_the_client_library_trusts_no_unknown_certificate(server: Server) -> None:
    with (
        Client(server.endpoints["url"], retry=NO_RETRY) as client,
        pytest.raises(Unreachable, match="CERTIFICATE"),
    ):
        client.health()


def test_the_commands_trust_what_ssl_cert_file_names(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = ["config", "show", "speculation.mode", "--url", server.endpoints["url"]]
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert invoke(shown) != 0
    assert "CERTIFICATE" in capsys.readouterr().err
    monkeypatch.setenv("SSL_CERT_FILE", str(server.authority))
    assert invoke(shown) == 0, capsys.readouterr().err
    assert "speculation.mode" in capsys.readouterr().out


def test_plain_http_gets_nothing(server: Server) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(server.endpoints["url"].replace("https", "http") + "/health")


def test_no_secret_is_in_anything_it_says_or_keeps(server: Server) -> None:
    made = TokenFile(server.data).create("operator", Scope.OPERATE)
    secret = (NEEDLE + os.urandom(12).hex().encode())[:24]
    salt = (NEEDLE + os.urandom(12).hex().encode())[:24]
    answers: list[bytes] = []

    def keep(answer: httpx.Response) -> None:
        body = answer.read()
        answers.append(str(answer.headers).encode() + (gzip.decompress(body) if body[:2] == GZIP else body))

    with server.http() as http:
        http.event_hooks["response"] = [keep]
        profile(server, http, made)
        agent_token = use(server, secret, salt)
        misuse(server, http, secret, made, agent_token)
        look_around(server, http, made)
    # As they are, and as JSON and logs would carry them.
    forms = [server.token.encode(), made.encode(), agent_token.encode()]
    forms += [
        form(raw)
        for raw in (secret, salt)
        for form in (bytes, base64.b64encode, lambda raw: raw.hex().encode())
    ]
    kept = [path for path in server.data.rglob("*") if path.is_file() and "witnesses" not in path.name]
    assert len(kept) > 3
    everything = {"answers": b"\n".join(answers), "logs": server.said.read_bytes()}
    everything |= {str(path): path.read_bytes() for path in kept}
    leaks = [(where, form[:12]) for where, text in everything.items() for form in forms if form in text]
    assert not leaks
    assert b"operation_admitted" in everything["logs"]
    assert b"uvicorn" in everything["answers"], "the profile is among them"
    erased = b"".join(path.read_bytes() for path in server.data.glob("witnesses*"))
    assert secret not in erased, "the operation is confirmed: its secret is gone from the disk"


def profile(server: Server, http: httpx.Client, token: str) -> None:
    """One that runs while secrets pass through."""
    url, headers = server.endpoints["url"], {"authorization": f"Bearer {token}"}
    started = http.post(f"{url}/admin/debug/profile/start", json={"duration_seconds": 3}, headers=headers)
    assert started.is_success, started.text


def use(server: Server, secret: bytes, salt: bytes) -> str:
    """An operation, confirmed; the agent's token."""
    with server.client(server.token) as client:
        agent = client.register_agent("agent", agent_key=agent_key(secret), deposit_lamports=10**9)
    body = OperationBody(
        operation_id="op",
        agent_id="agent",
        task_id="task",
        operation_type="test",
        output=b"an output",
        salt=salt,
        secret=secret,
    )
    with server.client(agent.token) as client:
        client.submit(body)
        assert client.wait("op", timeout_s=PATIENCE_S).state == OperationState.CONFIRMED
        deadline_s = time.monotonic() + PATIENCE_S
        while any(secret in path.read_bytes() for path in server.data.glob("witnesses*")):
            assert time.monotonic() < deadline_s, "the secret is not erased"
            time.sleep(0.2)
    return agent.token


def misuse(server: Server, http: httpx.Client, secret: bytes, *tokens: str) -> None:
    """Refusals of everything that carries a secret."""
    url = server.endpoints["url"]
    text = base64.b64encode(secret).decode()
    fields = {
        "operation_id": "op-2",
        "agent_id": "agent",
        "task_id": "task",
        "operation_type": "test",
        "output": "b3V0",
    }
    for token in (server.token, *tokens):
        headers = {"authorization": f"Bearer {token}"}
        for given in (
            {"salt": text, "secret": text[:7]},
            {"salt": text[:9], "secret": text},
            {"secret": [text]},
        ):
            answer = http.post(f"{url}/v1/operations", json=fields | given, headers=headers)
            assert answer.status_code in (403, 409, 422), answer.text
        http.post(f"{url}/admin/config", json={"admin.token": token}, headers=headers)
        http.post(f"{url}/admin/gc", headers={"authorization": f"Basic {token}"})
        http.post(f"{url}/admin/gc", headers={"authorization": f"Bearer {token}x"})
    with server.client() as client, pytest.raises(ApiError):
        client.set_config({})


def look_around(server: Server, http: httpx.Client, token: str) -> None:
    """Everything that can be read, a profile among it."""
    url, headers = server.endpoints["url"], {"authorization": f"Bearer {token}"}
    document = http.get(f"{url}/openapi.json").json()
    known = {"{operation_id}": "op", "{agent_id}": "agent", "{batch_id}": "batch-1", "{slash_id}": "none"}
    for path, methods in document["paths"].items():
        if "get" in methods and path != "/v1/events":
            for name, value in known.items():
                path = path.replace(name, value)
            http.get(url + path, headers=headers, params={"agent": "agent"})
    for path in ("/metrics", "/health"):
        http.get(server.endpoints["workers_url"] + path)


def test_a_pair_that_cannot_be_used_starts_nothing(
    certificate: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.pem"
    other.write_text("not a certificate")
    data = tmp_path / "data"
    for options in (
        ["--tls-cert", str(certificate[0])],
        ["--tls-cert", str(certificate[0]), "--tls-key", str(other)],
        ["--tls-cert", str(tmp_path / "none"), "--tls-key", str(certificate[1])],
    ):
        assert invoke(["up", "--data-dir", str(data), *options]) == 2
        assert "TLS" in capsys.readouterr().err
    assert not data.exists()


def test_others_are_served_only_over_tls_or_by_the_operators_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    exposed = ["up", "--host", "0.0.0.0", "--data-dir", str(data)]
    monkeypatch.setenv("AGENC_ADMIN_TOKEN", "your-token-here")
    assert invoke(exposed) == 2
    assert "guessed" in capsys.readouterr().err
    monkeypatch.setenv("AGENC_ADMIN_TOKEN", "x" * 32)
    assert invoke(exposed) == 2
    assert "--allow-plain-http" in capsys.readouterr().err
    monkeypatch.delenv("AGENC_ADMIN_TOKEN")
    TokenFile(data).create("operator", Scope.OPERATE)
    assert invoke(exposed) == 2
    assert "--allow-plain-http" in capsys.readouterr().err
