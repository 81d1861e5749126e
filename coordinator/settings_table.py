"""Every configuration key, once: type, default, range, unit and what it does.

Validation, `GET /admin/config`, `agenc config` and the docs are derived from this table.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import TypeAlias

from coordinator.core.states import RollbackPolicy

#: What a key holds. Lists are for restart-only keys: a runtime change is a JSON scalar.
Value: TypeAlias = bool | int | float | str | tuple[str, ...] | None

#: Greatest integer that every JSON reader keeps exact; the bound of lamports and of all else unbounded.
MAX_SAFE_INTEGER = 2**53 - 1


class Kind(StrEnum):
    """The type of a key's value."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    TEXT = "text"
    CHOICE = "choice"
    INT_OR_AUTO = "int or auto"
    TEXT_LIST = "list of text"


class Env(StrEnum):
    """The profile a process runs under: which file it reads and what it refuses."""

    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Key:
    """One configuration key.

    `default` None means that the default is derived, and `default_doc` says from what. `low` and `high` are
    inclusive; an absent `high` is MAX_SAFE_INTEGER.
    """

    name: str
    kind: Kind
    default: Value
    doc: str
    _: KW_ONLY
    unit: str = ""
    low: float = 0
    high: float = MAX_SAFE_INTEGER
    choices: tuple[str, ...] = ()
    default_doc: str = ""
    restart_only: bool = False
    secret: bool = False

    @property
    def range_text(self) -> str:
        """The allowed values in words, as error messages and the docs print them."""
        match self.kind:
            case Kind.BOOL:
                return "true or false"
            case Kind.CHOICE:
                return "one of " + ", ".join(self.choices)
            case Kind.TEXT:
                return "a text that is not empty"
            case Kind.TEXT_LIST:
                return "a list of texts"
            case Kind.INT | Kind.FLOAT:
                return self._interval_text()
            case Kind.INT_OR_AUTO:
                return f'"auto" or {self._interval_text()}'

    @property
    def environment_name(self) -> str:
        """The environment variable that pins the key."""
        return "AGENC_" + self.name.upper().replace(".", "_")

    def _interval_text(self) -> str:
        noun = "a number" if self.kind is Kind.FLOAT else "a whole number"
        if self.high == MAX_SAFE_INTEGER:
            return f"{noun} of at least {self.low:.10g}"
        return f"{noun} from {self.low:.10g} to {self.high:.10g}"


#: What each mode gives to the keys that nobody set; `custom` keeps what is set, else balanced's.
MODES: Mapping[str, Mapping[str, int]] = {
    "conservative": {"speculation.max_depth": 3, "speculation.max_parallel_branches": 2},
    "balanced": {"speculation.max_depth": 5, "speculation.max_parallel_branches": 4},
    "aggressive": {"speculation.max_depth": 10, "speculation.max_parallel_branches": 8},
    "custom": {"speculation.max_depth": 5, "speculation.max_parallel_branches": 4},
}

#: Choices that only some profiles allow: a mock proof proves nothing, testing parameters next to nothing.
ONLY_IN: Mapping[tuple[str, str], frozenset[Env]] = {
    ("speculation.proof.generator", "mock"): frozenset({Env.DEV, Env.STAGING, Env.TEST}),
    ("proof.parameters", "testing"): frozenset({Env.TEST}),
}

_DAY_MS = 86_400_000

_SPECULATION = (
    Key("speculation.enabled", Kind.BOOL, False, "Whether operations may build on unconfirmed results."),
    Key(
        "speculation.mode",
        Kind.CHOICE,
        "conservative",
        "Gives max_depth and max_parallel_branches where these are not set.",
        choices=tuple(MODES),
    ),
    Key(
        "speculation.max_depth",
        Kind.INT,
        None,
        "Unconfirmed ancestors in a row that an operation may stand on.",
        low=1,
        high=20,
        default_doc="from speculation.mode",
    ),
    Key(
        "speculation.max_parallel_branches",
        Kind.INT,
        None,
        "Speculative leaves that one agent may hold at a time.",
        low=1,
        high=16,
        default_doc="from speculation.mode",
    ),
    Key(
        "speculation.confirmation_timeout_ms",
        Kind.INT,
        30_000,
        "Time from submission to the chain until an unconfirmed operation is rolled back; stands still while "
        "the chain is disconnected.",
        unit="ms",
        low=5_000,
        high=300_000,
    ),
    Key(
        "speculation.rollback_policy",
        Kind.CHOICE,
        "cascade",
        "cascade: descendants go at once; selective: they wait for a replacement with the same output; "
        "checkpoint: as cascade, with a snapshot only at every fourth depth.",
        choices=tuple(RollbackPolicy),
    ),
)

_STAKE = (
    Key(
        "speculation.stake.min_stake",
        Kind.INT,
        1_000_000,
        "Bond at depth 0.",
        unit="lamports",
    ),
    Key(
        "speculation.stake.max_stake",
        Kind.INT,
        1_000_000_000,
        "The most that one agent may have bonded at a time.",
        unit="lamports",
    ),
    Key(
        "speculation.stake.stake_per_depth",
        Kind.INT,
        100_000,
        "Added to the bond for every unconfirmed ancestor in a row.",
        unit="lamports",
    ),
    Key(
        "speculation.stake.slash_percentage",
        Kind.FLOAT,
        0.1,
        "Share of the bond that an agent's own fault costs; kept in basis points.",
        low=0.01,
        high=0.5,
    ),
    Key(
        "speculation.stake.cooldown_period_ms",
        Kind.INT,
        60_000,
        "How long a slashed agent is denied speculation.",
        unit="ms",
        high=_DAY_MS,
    ),
)

_PROOF = (
    Key(
        "speculation.proof.generator",
        Kind.CHOICE,
        "stark",
        "What makes proofs; mock proves nothing, is refused in production and is shown wherever it matters.",
        choices=("stark", "mock"),
        restart_only=True,
    ),
    Key(
        "speculation.proof.worker_threads",
        Kind.INT,
        None,
        "Proof workers wanted in all; running are the fewest of this, the slots and what memory allows.",
        low=1,
        high=32,
        default_doc="half of the machine's cores; on a cluster (ray.address) every slot",
    ),
    Key(
        "speculation.proof.queue_size",
        Kind.INT,
        1_000,
        "Operations that may be QUEUED; when it is full, submissions get 429 and a Retry-After.",
        low=100,
        high=1_000_000,
    ),
    Key(
        "speculation.proof.timeout_ms",
        Kind.INT,
        60_000,
        "Time a worker has for one batch before it is given up for lost.",
        unit="ms",
        low=1_000,
        high=3_600_000,
    ),
    Key(
        "speculation.proof.batch_size",
        Kind.INT_OR_AUTO,
        "auto",
        "The most operations in one proof; auto lets the planner choose.",
        low=1,
        high=4_096,
    ),
    Key(
        "speculation.proof.gather_ratio",
        Kind.FLOAT,
        0.08,
        "Share of a confirmation's time that an operation waits for those that build on it, where nothing is known"
        " of its type yet; 0 proves everything at once.",
        low=0.0,
        high=0.5,
    ),
)

_LIMITS = (
    Key(
        "speculation.limits.max_memory_mb",
        Kind.INT,
        4_096,
        "Memory of the coordinator at which new speculation is denied.",
        unit="MiB",
        low=512,
        high=16_777_216,
        restart_only=True,
    ),
    Key(
        "speculation.limits.max_pending_operations",
        Kind.INT,
        10_000,
        "Live commitments at which new speculation is denied.",
        low=1,
        high=10_000_000,
    ),
    Key(
        "speculation.limits.max_open_operations",
        Kind.INT,
        1_000_000,
        "Unconfirmed operations of every kind; beyond it submissions get 429.",
        low=1,
        high=10_000_000,
    ),
    Key(
        "speculation.limits.max_state_snapshots",
        Kind.INT,
        100,
        "Snapshots of speculative operations at which new speculation is denied.",
        low=1,
        high=1_000_000,
    ),
    Key(
        "speculation.limits.gc_interval_ms",
        Kind.INT,
        30_000,
        "How often finished operations leave memory.",
        unit="ms",
        low=1_000,
        high=_DAY_MS,
    ),
)

_FEATURES = (
    Key(
        "speculation.features.enable_parallel_speculation",
        Kind.BOOL,
        True,
        "Whether one agent may hold more than one speculative branch.",
    ),
    Key(
        "speculation.features.enable_cross_agent_speculation",
        Kind.BOOL,
        False,
        "Whether an agent may build on another agent's unconfirmed result.",
    ),
    Key(
        "speculation.features.enable_optimistic_proofs",
        Kind.BOOL,
        True,
        "Whether a speculative operation is proved before its parents are confirmed.",
    ),
    Key(
        "speculation.features.enable_stake_delegation",
        Kind.BOOL,
        False,
        "Whether a delegator's balance may bond for another agent.",
    ),
    Key(
        "speculation.features.rollout_percentage",
        Kind.FLOAT,
        100.0,
        "Share of agents that may speculate, sticky per agent: raising it only adds agents.",
        unit="%",
        high=100,
    ),
)

_BREAKER = (
    Key(
        "circuit_breaker.window_ms",
        Kind.INT,
        60_000,
        "The window over which finished operations are judged.",
        unit="ms",
        low=1_000,
        high=3_600_000,
    ),
    Key(
        "circuit_breaker.min_finished",
        Kind.INT,
        20,
        "Finished operations that the window needs before it can open the breaker.",
        low=1,
        high=1_000_000,
    ),
    Key("circuit_breaker.rollback_ratio", Kind.FLOAT, 0.30, "Rollbacks above which it opens.", high=1),
    Key("circuit_breaker.error_ratio", Kind.FLOAT, 0.10, "Failures above which it opens.", high=1),
    Key(
        "circuit_breaker.pause_ms",
        Kind.INT,
        30_000,
        "How long it stays open before it lets probes through.",
        unit="ms",
        low=1_000,
        high=_DAY_MS,
    ),
    Key("circuit_breaker.probes", Kind.INT, 5, "Operations let through half-open.", low=1, high=1_000),
)

_STORE = (
    Key(
        "store.snapshot_after",
        Kind.INT,
        100_000,
        "Events and admitted operations after which the state is written to disk, so that a restart reads no more.",
        low=100,
        high=100_000_000,
    ),
    Key(
        "store.snapshot_interval_s",
        Kind.INT,
        900,
        "The same by time, where at least 1,000 came since.",
        unit="s",
        low=10,
        high=86_400,
    ),
    Key(
        "store.compact_after",
        Kind.INT,
        200_000,
        "Events in the log's file at which those behind the older snapshot move to archive/.",
        low=1,
        high=1_000_000_000,
    ),
)

_CHAIN = (
    Key(
        "chain.confirmation_slots",
        Kind.INT,
        5,
        "Depth at which a result is final.",
        unit="slots",
        low=1,
        high=1_000,
        restart_only=True,
    ),
    Key("chain.slot_ms", Kind.INT, 400, "A slot.", unit="ms", low=10, high=60_000, restart_only=True),
    Key(
        "chain.transaction_expiry_slots",
        Kind.INT,
        10,
        "Slots after which a transaction that was not included is dead.",
        unit="slots",
        low=1,
        high=10_000,
        restart_only=True,
    ),
    Key(
        "claim_buffer_ms",
        Kind.INT,
        60_000,
        "Nothing is speculated on whose claim expires within this time.",
        unit="ms",
        high=_DAY_MS,
    ),
)

_ADMISSION = (
    Key("agents.open_registration", Kind.BOOL, False, "Whether agents register without a token."),
    Key("tasks.require_registration", Kind.BOOL, False, "Whether an operation needs a registered task."),
)

_SCALING = (
    Key(
        "scaling.mode",
        Kind.CHOICE,
        "off",
        "Whether the number of proof workers follows the load: on; dry_run only logs what it would do; off decides "
        "too, for GET /admin/scaling alone.",
        choices=("off", "dry_run", "on"),
    ),
    Key(
        "scaling.machines",
        Kind.CHOICE,
        "fixed",
        "Who is asked for machines: fixed, nobody (workers in the slots there are); ray, its autoscaler "
        "(request_resources); kubernetes, the scale of scaling.deployment.",
        choices=("fixed", "ray", "kubernetes"),
        restart_only=True,
    ),
    Key(
        "scaling.deployment",
        Kind.TEXT,
        "proof-workers",
        "The Kubernetes deployment whose pods hold the proof workers, in the coordinator's namespace.",
        restart_only=True,
    ),
    Key("scaling.min_workers", Kind.INT, 1, "Never fewer.", low=1, high=32),
    Key("scaling.max_workers", Kind.INT, 32, "Never more, deadlines or not.", low=1, high=32),
    Key(
        "scaling.drain_window_ms",
        Kind.INT,
        10_000,
        "Time within which what waits should be proved.",
        unit="ms",
        low=1_000,
        high=3_600_000,
    ),
    Key(
        "scaling.interval_ms",
        Kind.INT,
        5_000,
        "How often the load is looked at.",
        unit="ms",
        low=100,
        high=600_000,
    ),
    Key(
        "scaling.up_confirmations",
        Kind.INT,
        2,
        "Looks in a row that want more before there are.",
        low=1,
        high=100,
    ),
    Key(
        "scaling.down_confirmations",
        Kind.INT,
        6,
        "Looks in a row that want fewer before there is one fewer.",
        low=1,
        high=1_000,
    ),
    Key(
        "scaling.up_cooldown_ms",
        Kind.INT,
        10_000,
        "Time after a step before one up; deadlines do not wait for it.",
        unit="ms",
        high=_DAY_MS,
    ),
    Key(
        "scaling.down_cooldown_ms",
        Kind.INT,
        60_000,
        "Time after a step before one down; longer while steps down were taken back.",
        unit="ms",
        high=_DAY_MS,
    ),
    Key(
        "scaling.hold_ms",
        Kind.INT,
        600_000,
        "How long a number that somebody set by hand is left alone.",
        unit="ms",
        high=_DAY_MS,
    ),
)

_PROVER = (
    Key(
        "proof.parameters",
        Kind.CHOICE,
        "standard",
        "Named parameter set of the proofs; testing is for tests alone.",
        choices=("standard", "proven-100", "testing"),
        restart_only=True,
    ),
    Key(
        "proof.max_log_rows",
        Kind.INT,
        17,
        "Greatest height of a batch's trace, as a power of two; the planner splits beyond it.",
        low=9,
        high=22,
    ),
    Key(
        "proof.target_ms",
        Kind.INT,
        2_000,
        "Time that one proof should take at most; with batch_size auto the planner chooses the size that proves most "
        "within it.",
        unit="ms",
        low=50,
        high=600_000,
    ),
    Key(
        "proof.hedge",
        Kind.BOOL,
        True,
        "Whether a batch that takes longer than 95 % of its worker's is started a second time on a worker that has "
        "nothing else to do; the first proof counts.",
    ),
    Key(
        "proof.worker_kernel_threads",
        Kind.INT_OR_AUTO,
        "auto",
        "Threads of one CPU worker's kernels; auto shares the cores among the workers.",
        low=1,
        high=256,
        restart_only=True,
    ),
    Key(
        "ray.address",
        Kind.TEXT,
        "local",
        "The Ray cluster whose proof_worker slots hold the proof workers: HOST:PORT, auto (the one that runs on this "
        "host), or local (one of this process's own).",
        restart_only=True,
    ),
    Key(
        "ray.namespace",
        Kind.TEXT,
        "agenc",
        "Under which name the proof workers of a cluster outlive a coordinator, for the next one with the same name to "
        "take over; coordinators that share a cluster need different ones.",
        restart_only=True,
    ),
)

_SERVER = (
    Key("admin.host", Kind.TEXT, "127.0.0.1", "Address that the API listens on.", restart_only=True),
    Key("admin.port", Kind.INT, 9_090, "Port of the API; 0 takes any.", high=65_535, restart_only=True),
    Key(
        "admin.workers_port",
        Kind.INT,
        9_091,
        "Port of the proof workers' health and metrics; 0 takes a free one.",
        high=65_535,
        restart_only=True,
    ),
    Key(
        "admin.allowed_hosts",
        Kind.TEXT_LIST,
        ("localhost", "127.0.0.1", "[::1]"),
        'Names that the Host header may carry, without a port; "*" allows every one.',
        restart_only=True,
    ),
    Key(
        "admin.require_token_for_reads",
        Kind.BOOL,
        False,
        "Whether admin and metrics reads need it too.",
    ),
    Key(
        "admin.max_body_bytes",
        Kind.INT,
        64 * 2**20,
        "Greatest request body; a larger one gets 413 while it streams.",
        unit="bytes",
        low=1_024,
        high=2**30,
    ),
    Key(
        "admin.token",
        Kind.TEXT,
        None,
        "The operator's bearer token.",
        default_doc="without one, and without any by `agenc token`, made at the first start and printed once",
        restart_only=True,
        secret=True,
    ),
    Key(
        "admin.tls_cert",
        Kind.TEXT,
        None,
        "Certificate chain (PEM) that both ports serve HTTPS with; its key is admin.tls_key.",
        default_doc="none: plain HTTP",
        restart_only=True,
    ),
    Key(
        "admin.tls_key",
        Kind.TEXT,
        None,
        "Private key (PEM) of admin.tls_cert.",
        default_doc="none: plain HTTP",
        restart_only=True,
    ),
    Key(
        "admin.allow_plain_http",
        Kind.BOOL,
        False,
        "Whether other hosts are served without TLS: a proxy or a private network protects the line.",
        restart_only=True,
    ),
    Key(
        "data_dir",
        Kind.TEXT,
        "data",
        "Folder of all that is kept on disk.",
        restart_only=True,
    ),
    Key(
        "log.level",
        Kind.CHOICE,
        "info",
        "Least severity that is logged.",
        choices=("debug", "info", "warning", "error"),
        restart_only=True,
    ),
    Key(
        "log.format",
        Kind.CHOICE,
        "auto",
        "json: an object a line; console: for the eye; auto: console on a terminal, else json.",
        choices=("auto", "json", "console"),
        restart_only=True,
    ),
    Key(
        "tracing.endpoint",
        Kind.TEXT,
        None,
        "OTLP collector that traces go to over HTTP, such as http://localhost:4318/v1/traces.",
        default_doc="none: no traces",
        restart_only=True,
    ),
    Key(
        "tracing.sample_ratio",
        Kind.FLOAT,
        1.0,
        "Share of the operations that are traced, chosen by their ids.",
        high=1,
        restart_only=True,
    ),
    Key(
        "strict",
        Kind.BOOL,
        None,
        "Whether an invalid file or variable stops the start; otherwise it is logged and replaced.",
        default_doc="true in prod, else false",
        restart_only=True,
    ),
)

#: Every key by its name, in the order in which docs and API list them.
KEYS: Mapping[str, Key] = {
    key.name: key
    for group in (
        _SPECULATION,
        _STAKE,
        _PROOF,
        _LIMITS,
        _FEATURES,
        _BREAKER,
        _STORE,
        _CHAIN,
        _ADMISSION,
        _SCALING,
        _PROVER,
        _SERVER,
    )
    for key in group
}
