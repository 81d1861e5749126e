"""The application: routes, errors, authentication and the OpenAPI document over one service."""

from fastapi import FastAPI

from coordinator.http import console, probes
from coordinator.http.admin import (
    agent_list,
    audit,
    chain,
    config,
    memory,
    pipeline,
    plan,
    profile,
    recovery,
    scaling,
    speculation,
    stake,
    status,
    stuck_stake,
)
from coordinator.http.admin import agents as admin_agents
from coordinator.http.admin import operations as admin_operations
from coordinator.http.auth import Authenticator, FailureLimiter
from coordinator.http.context import Context
from coordinator.http.errors import install_error_handlers
from coordinator.http.gate import Gate
from coordinator.http.openapi import install_openapi
from coordinator.http.v1 import agents, delegations, events, operations, simulate, tasks
from coordinator.metrics import Metrics
from coordinator.service import Service
from coordinator.tokens import OperatorTokens

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
        delegations,
        tasks,
        operations,
        simulate,
        events,
        status,
        config,
        speculation,
        admin_operations,
        admin_agents,
        agent_list,
        stake,
        stuck_stake,
        plan,
        scaling,
        chain,
        pipeline,
        profile,
        recovery,
        memory,
        audit,
        console,
    )
)


def routed_app() -> FastAPI:
    """The routes and their document, without a service behind them: what the docs are made from."""
    app = FastAPI(
        title="agenc-prover",
        version=status.version(),
        description=_DESCRIPTION,
        # The interactive pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(console.page_router)
    for router in ROUTERS:
        app.include_router(router)
    install_openapi(app, ROUTERS)
    return app


def create_app(service: Service, *, operators: OperatorTokens) -> FastAPI:
    """The application over an open service. `operators`: see `OperatorTokens.open`."""
    app = routed_app()
    metrics = Metrics(service.engine, proof_type=service.settings.text("speculation.proof.generator"))
    service.parts.journal.listen(metrics.observe)
    service.parts.memory.on_collected = metrics.observe_gc
    auth = Authenticator(operators=operators, agents=service, limiter=FailureLimiter())
    context = app.state.context = Context(service=service, auth=auth, metrics=metrics)
    service.parts.housekeeping.on_tick = lambda: console.note(context)
    install_error_handlers(app, count_error=metrics.count_error)
    app.add_middleware(
        Gate, allowed_hosts=service.settings.texts("admin.allowed_hosts"), count_error=metrics.count_error
    )
    return app
