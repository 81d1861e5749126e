"""Settings: precedence and provenance, strictness, all-or-nothing changes, and the shipped files."""

import dataclasses
import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.config import CoreConfig
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.settings import Provenance, Settings, SettingsError, default_config_dir
from coordinator.settings_sources import Source
from coordinator.settings_table import KEYS, MAX_SAFE_INTEGER, MODES, Env, Kind

SHIPPED = Path(__file__).resolve().parents[2] / "config"
DEPTH, BRANCHES = "speculation.max_depth", "speculation.max_parallel_branches"
MIN_STAKE, MAX_STAKE = "speculation.stake.min_stake", "speculation.stake.max_stake"


def load(env: str = "test", *, environ: dict[str, str] | None = None) -> Settings:
    return Settings.load(env, None, environ or {})


def load_files(
    folder: Path, env: str = "dev", *, environ: dict[str, str] | None = None, **files: str
) -> Settings:
    for name, text in {"default": "", "dev": "", "staging": "", "prod": "", **files}.items():
        (folder / f"{name}.toml").write_text(text)
    return Settings.load(env, folder, environ or {})


def refusal(settings: Settings, changes: dict[str, object]) -> CoreError:
    with pytest.raises(CoreError) as caught:
        settings.validate_changes(changes)
    return caught.value


class TestPrecedence:
    def test_each_layer_goes_before_the_next(self, tmp_path: Path) -> None:
        key = "speculation.confirmation_timeout_ms"
        files = {"default": f"{key} = 6000", "dev": f"{key} = 7000"}
        settings = load_files(tmp_path, **files)
        assert (settings.effective(key), settings.provenance(key)) == (
            7000,
            Provenance(Source.FILE, "dev.toml"),
        )
        settings.set_overrides({key: 8000})
        assert (settings.effective(key), settings.provenance(key).source) == (8000, Source.RUNTIME)
        pinned = load_files(tmp_path, environ={"AGENC_SPECULATION_CONFIRMATION_TIMEOUT_MS": "9000"}, **files)
        pinned.set_overrides({key: 8000})
        assert pinned.effective(key) == 9000
        assert pinned.provenance(key) == Provenance(
            Source.ENVIRONMENT, "AGENC_SPECULATION_CONFIRMATION_TIMEOUT_MS"
        )

    def test_default_file_serves_every_profile(self, tmp_path: Path) -> None:
        settings = load_files(tmp_path, "staging", default="claim_buffer_ms = 5")
        assert settings.effective("claim_buffer_ms") == 5
        assert settings.provenance("claim_buffer_ms").detail == "default.toml"

    def test_removing_an_override_uncovers_the_file(self, tmp_path: Path) -> None:
        settings = load_files(tmp_path, dev="claim_buffer_ms = 5")
        settings.set_overrides({"claim_buffer_ms": 7})
        settings.set_overrides({"claim_buffer_ms": None})
        assert settings.effective("claim_buffer_ms") == 5

    def test_flat_keys_and_tables_are_the_same(self, tmp_path: Path) -> None:
        flat = load_files(tmp_path, dev="speculation.stake.min_stake = 5")
        table = load_files(tmp_path, dev="[speculation.stake]\nmin_stake = 5")
        quoted = load_files(tmp_path, dev='"speculation.stake.min_stake" = 5')
        assert [s.effective(MIN_STAKE) for s in (flat, table, quoted)] == [5, 5, 5]

    @pytest.mark.parametrize("text", ["", "  "])
    def test_an_empty_variable_counts_as_absent(self, text: str) -> None:
        assert load(environ={"AGENC_ADMIN_TOKEN": text.strip()}).effective("admin.token") is None

    def test_the_environments_names_are_one_to_one(self) -> None:
        names = [key.environment_name for key in KEYS.values()]
        assert len(set(names)) == len(names)
        assert KEYS[DEPTH].environment_name == "AGENC_SPECULATION_MAX_DEPTH"


class TestModes:
    @pytest.mark.parametrize(
        ("mode", "depth", "branches"),
        [("conservative", 3, 2), ("balanced", 5, 4), ("aggressive", 10, 8), ("custom", 5, 4)],
    )
    def test_a_mode_gives_what_is_not_set(self, mode: str, depth: int, branches: int) -> None:
        settings = load(environ={"AGENC_SPECULATION_MODE": mode})
        assert (settings.effective(DEPTH), settings.effective(BRANCHES)) == (depth, branches)
        assert settings.provenance(DEPTH) == Provenance(Source.MODE, mode)

    @pytest.mark.parametrize("mode", MODES)
    def test_an_explicit_value_wins_over_the_mode(self, mode: str) -> None:
        settings = load()
        settings.set_overrides({"speculation.mode": mode, DEPTH: 7})
        assert settings.effective(DEPTH) == 7
        assert settings.effective(BRANCHES) == MODES[mode][BRANCHES]

    def test_changing_the_mode_moves_what_is_not_set(self) -> None:
        settings = load()
        settings.set_overrides({"speculation.mode": "aggressive"})
        assert settings.core_config().max_depth == 10


class TestStrictness:
    def test_production_refuses_an_invalid_file(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError) as caught:
            load_files(tmp_path, "prod", prod="speculation.max_depth = 99\nspeculation.max_dept = 1")
        assert len(caught.value.problems) == 2
        assert "speculation.max_depth: 99 is not allowed; expected a whole number from 1 to 20" in str(
            caught.value
        )
        assert "speculation.max_dept: no such key" in str(caught.value)

    def test_elsewhere_the_default_is_used_and_the_problem_kept(self, tmp_path: Path) -> None:
        settings = load_files(tmp_path, "dev", dev="speculation.max_depth = 99")
        assert settings.effective(DEPTH) == 3
        assert len(settings.problems) == 1

    def test_strict_is_a_key_like_others(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError):
            load_files(tmp_path, "dev", dev="strict = true\nnonsense = 1")
        lenient = load_files(tmp_path, "prod", environ={"AGENC_STRICT": "false"}, prod="nonsense = 1")
        assert lenient.problems == ("prod.toml: nonsense: no such key",)

    def test_production_refuses_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="no such file"):
            Settings.load("prod", tmp_path, {})

    @pytest.mark.parametrize("text", ["speculation.max_depth = ", "\xff", "a = 1\na = 2", "[" * 5000])
    def test_a_file_that_is_not_toml_is_a_problem(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "dev.toml").write_bytes(text.encode("latin-1"))
        (tmp_path / "default.toml").write_text("")
        settings = Settings.load("dev", tmp_path, {})
        assert len(settings.problems) == 1
        assert "cannot be read" in settings.problems[0]

    def test_an_unknown_profile_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="expected one of dev, staging, prod, test"):
            Settings.load("production", None, {})

    def test_a_misspelt_variable_is_a_problem_but_others_variables_are_not(self) -> None:
        environ = {"AGENC_SPECULATION_MAXDEPTH": "1", "AGENC_URL": "x", "AGENC_PORT": "tcp://10.0.0.1:9090"}
        assert load(environ=environ).problems == ("AGENC_SPECULATION_MAXDEPTH: no such key",)

    def test_mock_proofs_are_refused_in_production(self) -> None:
        environ = {"AGENC_SPECULATION_PROOF_GENERATOR": "mock"}
        with pytest.raises(SettingsError, match="mock is refused in the profile prod"):
            Settings.load("prod", None, environ)
        assert Settings.load("dev", None, environ).effective("speculation.proof.generator") == "mock"

    @pytest.mark.parametrize("env", ["dev", "staging", "prod"])
    def test_testing_parameters_are_for_tests_alone(self, env: str) -> None:
        environ = {"AGENC_PROOF_PARAMETERS": "testing", "AGENC_STRICT": "true"}
        with pytest.raises(SettingsError, match="allowed in test"):
            Settings.load(env, None, environ)
        assert Settings.load("test", None, environ).effective("proof.parameters") == "testing"

    def test_a_broken_rule_between_keys_falls_to_the_defaults(self, tmp_path: Path) -> None:
        settings = load_files(tmp_path, dev=f"{MIN_STAKE} = 10\n{MAX_STAKE} = 5")
        assert (settings.effective(MIN_STAKE), settings.effective(MAX_STAKE)) == (1_000_000, 1_000_000_000)
        assert "exceeds" in settings.problems[0]


class TestRuntimeChanges:
    def test_an_error_names_key_value_and_range(self) -> None:
        error = refusal(load(), {DEPTH: 21})
        assert (error.code, error.field, error.status) == (ErrorCode.INVALID, DEPTH, 422)
        assert (
            error.message == "speculation.max_depth: 21 is not allowed; expected a whole number from 1 to 20"
        )

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            (DEPTH, 0),
            (DEPTH, 3.0),
            (DEPTH, True),
            (DEPTH, "3"),
            (DEPTH, [3]),
            (DEPTH, {"a": 1}),
            ("speculation.enabled", 1),
            ("speculation.enabled", "true"),
            ("speculation.mode", "reckless"),
            ("speculation.features.rollout_percentage", 100.1),
            ("speculation.features.rollout_percentage", math.nan),
            ("speculation.features.rollout_percentage", -math.inf),
            ("speculation.features.rollout_percentage", 10**400),
            ("speculation.proof.batch_size", "automatic"),
            ("speculation.proof.batch_size", 4097),
            (MIN_STAKE, MAX_SAFE_INTEGER + 1),
            (MIN_STAKE, -1),
        ],
    )
    def test_wrong_values_are_refused(self, key: str, value: object) -> None:
        assert refusal(load(), {key: value}).code is ErrorCode.INVALID

    def test_one_wrong_value_refuses_the_whole_change(self) -> None:
        settings = load()
        error = refusal(settings, {"speculation.enabled": True, DEPTH: 99, "speculation.mode": "reckless"})
        assert "99" in error.message
        assert "reckless" in error.message
        assert settings.effective("speculation.enabled") is False

    def test_unknown_restart_only_and_pinned_keys_say_so(self) -> None:
        settings = load(environ={"AGENC_SPECULATION_MAX_DEPTH": "1"})
        assert refusal(settings, {"speculation.depth": 1}).code is ErrorCode.UNKNOWN_KEY
        restart = refusal(settings, {"speculation.limits.max_memory_mb": 8192})
        assert (restart.code, restart.status) == (ErrorCode.RESTART_REQUIRED, 409)
        for value in (2, None):
            pinned = refusal(settings, {DEPTH: value})
            assert (pinned.code, pinned.status) == (ErrorCode.PINNED_BY_ENVIRONMENT, 409)

    def test_no_key_at_all_is_refused(self) -> None:
        assert refusal(load(), {}).code is ErrorCode.INVALID

    def test_a_rule_between_keys_is_judged_with_what_is_in_force(self) -> None:
        settings = load()
        settings.set_overrides({MAX_STAKE: 2_000_000})
        error = refusal(settings, {MIN_STAKE: 3_000_000})
        assert (error.code, error.field) == (ErrorCode.INVALID, MIN_STAKE)
        assert settings.validate_changes({MIN_STAKE: 3_000_000, MAX_STAKE: None}) == {
            MIN_STAKE: 3_000_000,
            MAX_STAKE: None,
        }

    def test_the_runbooks_changes_are_accepted(self) -> None:
        settings = load()
        for changes in (
            {"speculation.enabled": True, "speculation.mode": "conservative"},
            {"speculation.features.rollout_percentage": 10},
            {"speculation.max_depth": 1, "speculation.mode": "conservative"},
            {"speculation.proof.worker_threads": 16},
            {"speculation.proof.batch_size": 50},
            {"speculation.limits.max_state_snapshots": 25, "speculation.limits.max_pending_operations": 1000},
        ):
            assert settings.validate_changes(changes) == changes

    def test_a_stored_override_that_no_longer_holds_is_left_out(self) -> None:
        settings = load()
        settings.set_overrides({DEPTH: 99, "gone.key": 1, "speculation.enabled": True})
        assert settings.effective(DEPTH) == 3
        assert settings.effective("speculation.enabled") is True
        assert len(settings.problems) == 2


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_NAMES = st.sampled_from(sorted(KEYS)) | st.text()


@given(changes=st.dictionaries(_NAMES, _JUNK, max_size=6))
def test_no_junk_crashes_and_a_change_is_all_or_nothing(changes: dict[str, object]) -> None:
    settings = load()
    before = {name: settings.effective(name) for name in KEYS}
    error, accepted = None, None
    try:
        accepted = settings.validate_changes(changes)
    except CoreError as caught:
        error = caught
    if accepted is None:
        assert error is not None
        assert error.code in {ErrorCode.UNKNOWN_KEY, ErrorCode.RESTART_REQUIRED, ErrorCode.INVALID}
        assert error.message
    else:
        assert accepted.keys() == changes.keys()
        settings.set_overrides(accepted)
        assert settings.problems == ()
        settings.core_config()
        for name, value in accepted.items():
            assert value is None or settings.effective(name) == value
        settings.set_overrides({})
    assert {name: settings.effective(name) for name in KEYS} == before


@given(
    values=st.dictionaries(
        st.sampled_from([key.environment_name for key in KEYS.values()]), st.text(), max_size=5
    )
)
def test_no_environment_crashes_the_start(values: dict[str, str]) -> None:
    settings = Settings.load("test", None, {**values, "AGENC_STRICT": "false"})
    settings.core_config()


class TestTable:
    def test_every_key_has_its_words_and_a_default_it_allows(self) -> None:
        for name, key in KEYS.items():
            assert key.doc.endswith("."), name
            assert key.range_text, name
            assert key.default is not None or key.default_doc, name
            assert name.islower(), name

    def test_defaults_validate(self) -> None:
        settings = load()
        for name, key in KEYS.items():
            value = settings.effective(name)
            if value is not None and not key.restart_only:
                assert settings.validate_changes({name: value}) == {name: value}

    def test_lists_and_secrets_change_only_at_a_restart(self) -> None:
        for key in KEYS.values():
            if key.kind is Kind.TEXT_LIST or key.secret:
                assert key.restart_only, key.name

    def test_the_cores_own_defaults_are_the_tables(self) -> None:
        ours, cores = load("prod").core_config(), CoreConfig()
        differing = {
            field.name
            for field in dataclasses.fields(CoreConfig)
            if getattr(ours, field.name) != getattr(cores, field.name)
        }
        assert differing == set()

    def test_worker_threads_default_is_within_its_range(self) -> None:
        assert 1 <= load().integer("speculation.proof.worker_threads") <= 32

    @pytest.mark.parametrize("address", ["auto", "head:6379"])
    def test_on_a_cluster_every_slot_is_wanted_unless_a_number_is_set(self, address: str) -> None:
        joined = {"AGENC_RAY_ADDRESS": address}
        assert load(environ=joined).integer("speculation.proof.worker_threads") == 32
        chosen = joined | {"AGENC_SPECULATION_PROOF_WORKER_THREADS": "3"}
        assert load(environ=chosen).integer("speculation.proof.worker_threads") == 3


class TestShippedFiles:
    @pytest.mark.parametrize("env", [env for env in Env if env is not Env.TEST])
    def test_each_loads_strictly_with_speculation_off(self, env: Env) -> None:
        settings = Settings.load(env, SHIPPED, {"AGENC_STRICT": "true"})
        assert settings.effective("speculation.enabled") is False
        assert settings.provenance("speculation.enabled").detail == f"{env}.toml"
        assert settings.flag("agents.open_registration") is (env is Env.DEV)

    def test_none_sets_what_the_mode_gives(self) -> None:
        for path in SHIPPED.glob("*.toml"):
            speculation = tomllib.loads(path.read_text()).get("speculation", {})
            assert not {"max_depth", "max_parallel_branches"} & speculation.keys(), path.name

    def test_keys_are_flat_so_that_the_runbooks_edit_is_a_literal_one(self) -> None:
        for path in SHIPPED.glob("*.toml"):
            assert not any(line.startswith("[") for line in path.read_text().splitlines()), path.name
        assert "speculation.limits.max_memory_mb = " in (SHIPPED / "prod.toml").read_text()

    def test_the_default_folder_is_found_beside_the_package(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert default_config_dir({}) == SHIPPED
        assert default_config_dir({"AGENC_CONFIG_DIR": "/etc/agenc"}) == Path("/etc/agenc")
