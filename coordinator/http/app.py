"""The application: routes, errors, authentication and the OpenAPI document over one service."""

from fastapi import FastAPI

from coordinator.http import probes
from coordinator.http.admin import agents as admin_agents
from coordinator.http.admin import audit, chain, config, speculation, stake, status
from coordinator.http.admin import operations as admin_operations
from coordinator.http.auth import Authenticator, FailureLimiter, OperatorTokens
from coordinator.http.context import Context
from coordinator.http.errors import install_error_handlers
from coordinator.http.gate import Gate
from coordinator.http.openapi import install_openapi
from coordinator.http.v1 import agents, events, operations, tasks
from coordinator.metrics import Metrics
from coordinator.service import Service

_DESCRIPTION = """\
Speculative execution for AI agents with batched STARK proofs.

Agents use `/v1` with their own bearer token; operators use `/admin` with theirs. Every error has the shape
`{"error": {"code", "message", "detail"}}`. Bodies are JSON whatever their content type says.
"""

ROUTERS = tuple(
    module.router
    for module in (
        probes,
        agents,
        tasks,
        operations,
        events,
        status,
        config,
        speculation,
        admin_operations,
        admin_agents,
        stake,
        chain,
        audit,
    )
)


def create_app(service: Service, *, operators: OperatorTokens) -> FastAPI:
    """The application over an open service. `operators`: see `auth.OperatorTokens.open`."""
    app = FastAPI(
        title="agenc-prover",
        version=status.version(),
        description=_DESCRIPTION,
        # The interactive pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    metrics = Metrics(service.engine, proof_type=service.settings.text("speculation.proof.generator"))
    service.parts.journal.listen(metrics.observe)
    auth = Authenticator(operators=operators, agents=service, limiter=FailureLimiter())
    app.state.context = Context(service=service, auth=auth, metrics=metrics)
    for router in ROUTERS:
        app.include_router(router)
    install_error_handlers(app, count_error=metrics.count_error)
    install_openapi(app, ROUTERS)
    app.add_middleware(
        Gate, allowed_hosts=service.settings.texts("admin.allowed_hosts"), count_error=metrics.count_error
    )
    return app
