"""A small real HTTPS server that answers as the Kubernetes API does for one deployment's scale, and keeps it all."""

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PATH = "/apis/apps/v1/namespaces/prover/deployments/proof-workers/scale"


@dataclass
class KubeApi:
    """`account` is a pod's folder of credentials for it; `asked` are the requests as (method, content type, body)."""

    url: str
    account: Path
    replicas: int = 3
    token: str = "first"
    broken: bool = False
    asked: list[tuple[str, str | None, object]] = field(default_factory=list)


@contextmanager
def kube_api(folder: Path) -> Iterator[KubeApi]:
    """Serves until the block ends; skips where no certificate can be made."""
    certificate, key = _certificate(folder)
    account = folder / "account"
    account.mkdir()
    shutil.copy(certificate, account / "ca.crt")
    (account / "namespace").write_text("prover\n")
    (account / "token").write_text("first\n")
    api = KubeApi(url="", account=account)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve(None)

        def do_PATCH(self) -> None:
            length = int(self.headers["Content-Length"])
            self._serve(json.loads(self.rfile.read(length)))

        def _serve(self, body: object) -> None:
            api.asked.append((self.command, self.headers["Content-Type"], body))
            if api.broken:
                self._answer(500, {"kind": "Status"})
            elif self.headers["Authorization"] != f"Bearer {api.token}":
                self._answer(401, {"kind": "Status"})
            elif self.path != PATH:
                self._answer(403, {"kind": "Status"})
            else:
                if isinstance(body, dict):
                    api.replicas = body["spec"]["replicas"]
                spec = {"replicas": api.replicas} if api.replicas else {}
                self._answer(200, {"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": spec})

        def _answer(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    api.url = f"https://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _certificate(folder: Path) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    certificate, key = folder / "kube.pem", folder / "kube.key"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=kube", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, "req", *kind, *names, *files], check=True, capture_output=True)
    return certificate, key
