"""Effective configuration: the layers over the table of keys, and where each value came from.

Precedence, highest first: environment, runtime change (durable in the log), `{env}.toml`, `default.toml`,
built-in default. Only the runtime layer changes while the process lives, and only as a whole:
`validate_changes` refuses all of a change or none of it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias

from coordinator.core.config import BASIS_POINTS, CoreConfig
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.states import RollbackPolicy
from coordinator.settings_sources import (
    BadValueError,
    Layer,
    Source,
    checked_value,
    read_environment,
    read_file,
)
from coordinator.settings_table import KEYS, MODES, Env, Key, Value

#: What a runtime change carries; None removes the override.
Scalar: TypeAlias = bool | int | float | str | None

_RUNTIME = "admin API"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an effective value came from: the layer, and the variable, file or mode within it."""

    source: Source
    detail: str


class SettingsError(Exception):
    """Strict start-up met a configuration that does not hold; `problems` has one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("invalid configuration:\n  " + "\n  ".join(problems))
        self.problems = tuple(problems)


class Settings:
    """The effective value of every key, with its provenance."""

    def __init__(
        self, *, env: Env, environment: Layer, files: Sequence[Layer], problems: Sequence[str] = ()
    ) -> None:
        self.env = env
        self._environment = environment
        self._files = tuple(files)
        self._problems = list(problems)
        self._runtime = Layer(Source.RUNTIME, _RUNTIME, {})
        self._resolved: dict[str, tuple[Value, Provenance]] = {}
        self._resolve()

    @classmethod
    def load(
        cls,
        env: str = Env.DEV,
        config_dir: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Read `{env}.toml` and `default.toml` of `config_dir`, and the environment (default: our own).

        Without `config_dir` no file is read (see `default_config_dir`).

        Raises:
            SettingsError: `env` is not a profile, or the effective `strict` is true and something is wrong.
        """
        if env not in set(Env):
            raise SettingsError((f"profile {env!r}: expected one of {', '.join(Env)}",))
        profile = Env(env)
        problems: list[str] = []
        environment = read_environment(os.environ if environ is None else environ, profile, problems)
        paths = () if config_dir is None else (config_dir / f"{profile}.toml", config_dir / "default.toml")
        files = [read_file(path, profile, problems) for path in paths]
        settings = cls(env=profile, environment=environment, files=files, problems=problems)
        if settings.flag("strict") and settings.problems:
            raise SettingsError(settings.problems)
        return settings

    @property
    def problems(self) -> tuple[str, ...]:
        """What was refused, and replaced by a lower layer; one line each, for the log."""
        return tuple(self._problems)

    def effective(self, name: str) -> Value:
        """The value in force. Raises KeyError for a name outside the table (a defect, never an input)."""
        return self._resolved[name][0]

    def provenance(self, name: str) -> Provenance:
        """Where the value in force came from."""
        return self._resolved[name][1]

    def flag(self, name: str) -> bool:
        """The effective value of a bool key."""
        value = self.effective(name)
        assert isinstance(value, bool), name
        return value

    def integer(self, name: str) -> int:
        """The effective value of an int key."""
        value = self.effective(name)
        assert type(value) is int, name
        return value

    def number(self, name: str) -> float:
        """The effective value of a float key."""
        value = self.effective(name)
        assert isinstance(value, float), name
        return value

    def text(self, name: str) -> str:
        """The effective value of a text or choice key."""
        value = self.effective(name)
        assert isinstance(value, str), name
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """The effective value of a list key."""
        value = self.effective(name)
        assert isinstance(value, tuple), name
        return value

    def integer_or_auto(self, name: str) -> int | None:
        """The effective value of an "int or auto" key; None for auto."""
        return None if self.effective(name) == "auto" else self.integer(name)

    def scalar(self, name: str) -> Scalar:
        """The effective value of a key that can change at run time: those hold no lists."""
        value = self.effective(name)
        assert not isinstance(value, tuple), name
        return value

    def optional_text(self, name: str) -> str | None:
        """The effective value of a text key that may be unset (admin.token)."""
        return None if self.effective(name) is None else self.text(name)

    def validate_changes(self, changes: Mapping[str, object]) -> dict[str, Scalar]:
        """The change in its stored form, or the first thing that speaks against it (the message lists all).

        Raises:
            CoreError: unknown_key, pinned_by_environment, restart_required or invalid; `field` names the key.
        """
        if not changes:
            raise CoreError(ErrorCode.INVALID, "no key was given: see GET /admin/config for the keys")
        accepted: dict[str, Scalar] = {}
        refusals: list[CoreError] = []
        for name, value in changes.items():
            try:
                accepted[name] = self._validate_change(name, value)
            except CoreError as refusal:
                refusals.append(refusal)
        if not refusals:
            refusals.extend(self._broken_by(accepted))
        if refusals:
            message = "; ".join(refusal.message for refusal in refusals[:20])
            raise CoreError(refusals[0].code, message, field=refusals[0].field)
        return accepted

    def set_overrides(self, overrides: Mapping[str, Scalar]) -> None:
        """Replace the runtime layer by what the log holds (`state.overrides`): at start, after every change.

        An override that no longer holds (older table, other profile) is left out and noted in `problems`.
        """
        values: dict[str, Value] = {}
        for name, value in overrides.items():
            if value is None:
                continue
            try:
                values[name] = checked_value(_known(name), value, self.env)
            except (CoreError, BadValueError) as problem:
                self._note(f"stored override: {problem}")
        self._runtime = Layer(Source.RUNTIME, _RUNTIME, values)
        self._resolve()

    def with_changes(self, changes: Mapping[str, Scalar]) -> "Settings":
        """The settings as validated runtime changes would make them; these stay as they are."""
        made = Settings(env=self.env, environment=self._environment, files=self._files)
        kept = {name: self.scalar(name) for name in self._runtime.values}
        made.set_overrides({**kept, **changes})
        return made

    def core_config(self) -> CoreConfig:
        """The values that the core's decisions need, as they are in force now."""
        return CoreConfig(
            enabled=self.flag("speculation.enabled"),
            max_depth=self.integer("speculation.max_depth"),
            max_parallel_branches=self.integer("speculation.max_parallel_branches"),
            confirmation_timeout_ms=self.integer("speculation.confirmation_timeout_ms"),
            rollback_policy=RollbackPolicy(self.text("speculation.rollback_policy")),
            stake_min_lamports=self.integer("speculation.stake.min_stake"),
            stake_max_lamports=self.integer("speculation.stake.max_stake"),
            stake_per_depth_lamports=self.integer("speculation.stake.stake_per_depth"),
            slash_basis_points=round(self.number("speculation.stake.slash_percentage") * BASIS_POINTS),
            cooldown_period_ms=self.integer("speculation.stake.cooldown_period_ms"),
            optimistic_proofs=self.flag("speculation.features.enable_optimistic_proofs"),
            cross_agent=self.flag("speculation.features.enable_cross_agent_speculation"),
            stake_delegation=self.flag("speculation.features.enable_stake_delegation"),
            parallel_speculation=self.flag("speculation.features.enable_parallel_speculation"),
            rollout_percentage=self.number("speculation.features.rollout_percentage"),
            max_pending_operations=self.integer("speculation.limits.max_pending_operations"),
            max_open_operations=self.integer("speculation.limits.max_open_operations"),
            max_state_snapshots=self.integer("speculation.limits.max_state_snapshots"),
            max_memory_mb=self.integer("speculation.limits.max_memory_mb"),
            queue_size=self.integer("speculation.proof.queue_size"),
            proof_timeout_ms=self.integer("speculation.proof.timeout_ms"),
            batch_size=self.integer_or_auto("speculation.proof.batch_size"),
            proof_target_ms=self.integer("proof.target_ms"),
            hedge=self.flag("proof.hedge"),
            gather_ratio=self.number("speculation.proof.gather_ratio"),
            max_log_rows=self.integer("proof.max_log_rows"),
            claim_buffer_ms=self.integer("claim_buffer_ms"),
            confirmation_slots=self.integer("chain.confirmation_slots"),
            slot_ms=self.integer("chain.slot_ms"),
            transaction_expiry_slots=self.integer("chain.transaction_expiry_slots"),
            breaker_window_ms=self.integer("circuit_breaker.window_ms"),
            breaker_min_finished=self.integer("circuit_breaker.min_finished"),
            breaker_rollback_ratio=self.number("circuit_breaker.rollback_ratio"),
            breaker_error_ratio=self.number("circuit_breaker.error_ratio"),
            breaker_pause_ms=self.integer("circuit_breaker.pause_ms"),
            breaker_probes=self.integer("circuit_breaker.probes"),
            tasks_require_registration=self.flag("tasks.require_registration"),
        )

    def _validate_change(self, name: str, value: object) -> Scalar:
        key = _known(name)
        if name in self._environment.values:
            message = f"{name} is pinned by the environment ({key.environment_name})"
            raise CoreError(ErrorCode.PINNED_BY_ENVIRONMENT, message, field=name)
        if key.restart_only:
            message = f"{name} changes only at a restart: edit config/{self.env}.toml and restart"
            raise CoreError(ErrorCode.RESTART_REQUIRED, message, field=name)
        if value is None:
            return None
        try:
            checked = checked_value(key, value, self.env)
        except BadValueError as problem:
            raise CoreError(ErrorCode.INVALID, str(problem), field=name) from None
        assert not isinstance(checked, tuple), "a list key has to be restart_only"
        return checked

    def _broken_by(self, changes: Mapping[str, Scalar]) -> Iterator[CoreError]:
        merged = {**self._runtime.values, **changes}
        values: dict[str, Value] = {name: value for name, value in merged.items() if value is not None}
        layers = (self._environment, Layer(Source.RUNTIME, _RUNTIME, values), *self._files)
        for names, problem in _broken_rules(layers):
            yield CoreError(
                ErrorCode.INVALID, problem, field=next((n for n in changes if n in names), names[0])
            )

    def _resolve(self) -> None:
        layers = (self._environment, self._runtime, *self._files)
        dropped: set[str] = set()
        for names, problem in _broken_rules(layers):
            self._note(f"{problem}; the defaults are used")
            dropped.update(names)
        mode = _find("speculation.mode", layers) or (KEYS["speculation.mode"].default, None)
        for name, key in KEYS.items():
            found = None if name in dropped else _find(name, layers)
            self._resolved[name] = found or self._fallback(key, str(mode[0]), layers)

    def _fallback(self, key: Key, mode: str, layers: Sequence[Layer]) -> tuple[Value, Provenance]:
        if key.name in MODES[mode]:
            return MODES[mode][key.name], Provenance(Source.MODE, mode)
        value = key.default
        if key.name == "speculation.proof.worker_threads":
            value = _default_workers(layers, most=int(key.high))
        elif key.name == "strict":
            value = self.env is Env.PROD
        return value, Provenance(Source.DEFAULT, key.default_doc)

    def _note(self, problem: str) -> None:
        if problem not in self._problems:
            self._problems.append(problem)


def _default_workers(layers: Sequence[Layer], *, most: int) -> int:
    """On a cluster every slot gets a worker: slots are there to be used. On one machine agents run beside us."""
    address = _find("ray.address", layers)
    if address is not None and address[0] != KEYS["ray.address"].default:
        return most
    return min(max((os.cpu_count() or 1) // 2, 1), most)


def default_config_dir(environ: Mapping[str, str] | None = None) -> Path | None:
    """The shipped files' folder: AGENC_CONFIG_DIR, else `config/` here, else the one beside this package."""
    named = (os.environ if environ is None else environ).get("AGENC_CONFIG_DIR")
    if named:
        return Path(named)
    candidates = (Path("config"), Path(__file__).resolve().parent.parent / "config")
    return next((folder for folder in candidates if (folder / "default.toml").is_file()), None)


def _known(name: str) -> Key:
    key = KEYS.get(name)
    if key is None:
        raise CoreError(
            ErrorCode.UNKNOWN_KEY, f"{name[:100]}: no such key, see GET /admin/config", field=name[:100]
        )
    return key


def _find(name: str, layers: Sequence[Layer]) -> tuple[Value, Provenance] | None:
    for layer in layers:
        if name in layer.values:
            pinned = layer.source is Source.ENVIRONMENT
            return layer.values[name], Provenance(
                layer.source, KEYS[name].environment_name if pinned else layer.detail
            )
    return None


#: Keys of which the first may not exceed the second.
_ORDERED = (
    ("speculation.stake.min_stake", "speculation.stake.max_stake"),
    ("scaling.min_workers", "scaling.max_workers"),
)


def _broken_rules(layers: Sequence[Layer]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Rules between keys: the keys of each broken one, and the message."""
    for low, high in _ORDERED:
        minimum, maximum = (
            found[0] if (found := _find(name, layers)) else KEYS[name].default for name in (low, high)
        )
        assert isinstance(minimum, int)
        assert isinstance(maximum, int)
        if minimum > maximum:
            yield (low, high), f"{low}: {minimum} exceeds {high} {maximum}; expected {low} ≤ {high}"
