"""Configuration: every key with its value, where that came from and what is allowed; changes at run time."""

from fastapi import APIRouter, Request, Response

from coordinator.answers_admin import ConfigAnswer, ConfigChange, ConfigKey, Scalar
from coordinator.core.errors import ErrorCode
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import SMALL_BODY_BYTES, answer, read_body, whole
from coordinator.settings_table import KEYS
from coordinator.settings_view import key_view
from coordinator.tokens import Scope

#: Keys that say who may do what: changing them takes a token of scope admin.
ACCESS_KEYS = ("admin.", "agents.", "tasks.")

router = APIRouter(prefix="/admin/config", tags=["configuration"])

_EXAMPLE_KEY = ConfigKey(
    value=3,
    source="mode",
    detail="conservative",
    default=None,
    type="int",
    range="a whole number from 1 to 20",
    unit="",
    restart_only=False,
    description="Unconfirmed ancestors in a row that an operation may stand on.",
)


@router.get(
    "",
    **describe(
        "The configuration in force",
        answers={200: ConfigAnswer},
        example=ConfigAnswer(env="dev", problems=(), keys={"speculation.max_depth": _EXAMPLE_KEY}),
        errors=(ErrorCode.UNAUTHORIZED,),
    ),
)
async def get_config(request: Request, ctx: Ctx) -> Response:
    """Every key with its value, its provenance (environment, runtime, file, mode, default) and its range."""
    ctx.require_admin_reader(request)
    settings = ctx.settings
    keys = {name: key_view(settings, key) for name, key in KEYS.items()}
    return answer(ConfigAnswer(env=settings.env, problems=settings.problems, keys=keys))


@router.post(
    "",
    **describe(
        "Change the configuration",
        body=dict[str, Scalar],
        body_example={"speculation.enabled": True, "speculation.features.rollout_percentage": 10},
        answers={200: ConfigChange},
        example=ConfigChange(before={"speculation.enabled": False}, after={"speculation.enabled": True}),
        errors=(
            ErrorCode.INVALID,
            ErrorCode.UNKNOWN_KEY,
            ErrorCode.PINNED_BY_ENVIRONMENT,
            ErrorCode.RESTART_REQUIRED,
            ErrorCode.UNAUTHORIZED,
            ErrorCode.FORBIDDEN,
            ErrorCode.READ_ONLY,
        ),
        secured=True,
    ),
)
async def change_config(request: Request, ctx: Ctx) -> Response:
    """All or nothing, durable; `null` takes a runtime value back. `enabled: true` ends an operator's stop."""
    by = ctx.auth.operator(request)
    changes: dict[str, Scalar] = await read_body(
        request,
        dict[str, Scalar],
        limit_bytes=SMALL_BODY_BYTES,
    )
    if any(key.startswith(ACCESS_KEYS) for key in changes):
        ctx.auth.operator(request, Scope.ADMIN)
    change = await ctx.service.set_config(changes, by)
    return answer(ConfigChange(before=_plain(change["before"]), after=_plain(change["after"])))


def _plain(values: dict[str, Scalar]) -> dict[str, Scalar]:
    return {name: whole(value) if isinstance(value, float) else value for name, value in values.items()}
