"""The workers' own endpoint, port 9091: `/health`, `/ready`, `/metrics`.

It shows a `PoolReport` and knows nothing of the pool: whoever serves it gives it a way to ask for the report.
With the embedded cluster that is the pool's process; on a cluster of several hosts a small actor on each node
can hold a `NodeServer` as well, and the coordinator tells it the report.
"""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from workers.http_server import HttpServer, Tls, host_allowed
from workers.messages import (
    FAILURE_TYPES,
    GENERATION_BUCKETS_S,
    PoolReport,
    StartError,
    StartErrorCode,
)
from workers.node_metrics import NODE_METRICS

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9091
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
#: Probes come by address, so these answer whatever Host says.
PROBES = frozenset({"/health", "/ready"})


class NodeServer:
    """Serves one report over HTTP, on the event loop that starts it."""

    def __init__(
        self,
        report: Callable[[], PoolReport],
        *,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        allowed_hosts: Collection[str] = LOOPBACK_NAMES,
        tls: Tls | None = None,
    ) -> None:
        """`port` 0 takes a free one; `port` tells which once started. `allowed_hosts`: names that the Host header may
        carry, all with "*".
        """
        self.host = host
        self.port = port
        names = frozenset(name.lower() for name in allowed_hosts)
        self._app = HostCheck(create_app(report), allowed_hosts=names)
        self._tls = tls
        self._server: HttpServer | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen and serve.

        Raises:
            StartError: the port is taken, or the address is not one of this machine's.
        """
        assert self._task is None, "a server starts once"
        listener = _listen(self.host, self.port)
        self.port = int(listener.getsockname()[1])
        self._server = HttpServer(self._app, tls=self._tls)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        await self._server.listening.wait()

    async def stop(self) -> None:
        """Stop listening; open requests are answered. Idempotent."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._server = self._task = None


class HostCheck:
    """ASGI middleware: a page that gave its own name our address (DNS rebinding) reads nothing here; its Host shows."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: Collection[str]) -> None:
        self._app = app
        self._allowed = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        app = self._app
        if scope["path"] not in PROBES and not host_allowed(
            Headers(scope=scope).get("host", ""), self._allowed
        ):
            error = {
                "code": "host_not_allowed",
                "message": "the Host header names no allowed host",
                "detail": {},
            }
            app = JSONResponse({"error": error}, status_code=421)
        await app(scope, receive, send)


def create_app(report: Callable[[], PoolReport]) -> FastAPI:
    """The three routes over a report."""
    app = FastAPI(title="agenc-prover proof workers", docs_url=None, redoc_url=None)
    registry = CollectorRegistry()
    registry.register(ReportCollector(report))

    @app.get("/health")
    async def health() -> JSONResponse:
        """Liveness: 200 while the endpoint serves; `status` says how the workers are."""
        return JSONResponse(health_of(report()))

    @app.get("/ready")
    async def ready() -> JSONResponse:
        """200 when at least one worker can prove."""
        running = report().scale.running
        return JSONResponse({"ready": running > 0, "running": running}, status_code=200 if running else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus text."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def health_of(report: PoolReport) -> dict[str, object]:
    """The body of `/health`. `degraded`: fewer workers are up than should be; `unhealthy`: none is."""
    scale = report.scale
    status = "unhealthy" if scale.running == 0 else "degraded" if scale.running < scale.target else "healthy"
    return {
        "status": status,
        "desired": scale.desired,
        "running": scale.running,
        "target": scale.target,
        "limited_by": scale.limited_by,
        "queue_size": report.queue_size,
        "workers": [
            {
                "id": worker.worker_id,
                "up": worker.up,
                "busy": worker.batch_id is not None,
                "state": worker.state,
                "backend": worker.backend,
                "batches": worker.batches,
                "failures": worker.failures,
                "restarts": worker.restarts,
                "busy_s": worker.busy_s,
                "utilization": round(worker.utilization, 4),
                "rss_bytes": worker.rss_bytes,
                "last_error": worker.last_error,
            }
            for worker in report.workers
        ],
    }


class ReportCollector(Collector):
    """The report as metric families, made anew at each scrape: a worker that left leaves no series behind."""

    def __init__(self, report: Callable[[], PoolReport]) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        report = self._report()
        workers = report.workers
        yield _gauge("proof_queue_size", value=report.queue_size)
        yield _labelled("proof_worker_up", "worker", ((w.worker_id, float(w.up)) for w in workers))
        yield _labelled("proof_worker_utilization", "worker", ((w.worker_id, w.utilization) for w in workers))
        yield _counted("proof_worker_batches", "worker", ((w.worker_id, w.batches) for w in workers))
        devices = Counter(w.backend for w in workers if w.up and w.backend is not None)
        yield _labelled("proof_worker_device", "device", devices.items())
        yield _counted(
            "proof_failures", "error_type", ((name, report.failures.get(name, 0)) for name in FAILURE_TYPES)
        )
        yield CounterMetricFamily(
            "proof_permutations", NODE_METRICS["proof_permutations_total"].help, value=report.permutations
        )
        yield HistogramMetricFamily(
            "proof_generation_seconds",
            NODE_METRICS["proof_generation_seconds"].help,
            buckets=list(
                zip((*map(str, GENERATION_BUCKETS_S), "+Inf"), report.generation_counts, strict=True)
            ),
            sum_value=report.generation_sum_s,
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing: so that registering does not ask for a report yet."""
        return ()


def _gauge(name: str, *, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, NODE_METRICS[name].help, value=value)


def _labelled(name: str, label: str, samples: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, NODE_METRICS[name].help, labels=[label])
    for text, value in samples:
        family.add_metric([text], value)
    return family


def _counted(name: str, label: str, samples: Iterable[tuple[str, float]]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, NODE_METRICS[f"{name}_total"].help, labels=[label])
    for text, value in samples:
        family.add_metric([text], value)
    return family


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for TIME_WAIT
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                StartErrorCode.PORT_TAKEN,
                f"port {port} on {host} is in use: is another coordinator running? Choose another port",
            ) from error
        raise StartError(
            StartErrorCode.ADDRESS_UNUSABLE, f"cannot listen on {host}:{port}: {error.strerror}"
        ) from error
    return listener
