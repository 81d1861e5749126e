"""The configuration's page, made from the table: `agenc config docs` prints it, docs/CONFIGURATION.md keeps it."""

from collections.abc import Iterator

from coordinator.settings_table import KEYS, MODES, ONLY_IN, Key, Kind, Value

_INTRODUCTION = """\
# Configuration

<!-- Made by `agenc config docs` from coordinator/settings_table.py: change it there. -->

Every key has one type, one range and one default, and `agenc` knows where each value came from:

```bash
agenc config show                                  # every key: value, source, range
agenc config get speculation.mode                  # one value, for scripts
agenc config set speculation.max_depth=2           # at run time, durable; null takes it back
agenc config validate --env prod                   # what a start would complain about
```

Over HTTP the same is `GET /admin/config` and `POST /admin/config`.

## Where a value comes from

The first of these that has the key:

| | source | how |
| --- | --- | --- |
| 1 | environment | `AGENC_` and the key in capitals, dots as underscores: `AGENC_SPECULATION_MAX_DEPTH=1` |
| 2 | runtime | `POST /admin/config` or `agenc config set`; kept in the log; `null` removes it |
| 3 | profile | `config/{dev,staging,prod}.toml`, by `agenc up --env` (default `dev`) |
| 4 | shared file | `config/default.toml` |
| 5 | mode | `speculation.max_depth` and `speculation.max_parallel_branches` where nothing above sets them |
| 6 | default | the tables below |

A key that the environment sets is pinned: a change at run time answers 409 `pinned_by_environment`. A runtime value
outlives a restart. The files lie in `config/`, or in the folder that `AGENC_CONFIG_DIR` names; they take flat dotted
keys (`speculation.max_depth = 3`) or TOML tables. An empty variable counts as absent; lists are separated by commas.

A change at run time is all or nothing: one key that is unknown, out of range or restart-only refuses the whole of it,
and the error names key, value and range. **Restart-only** keys answer 409 `restart_required`: edit the file and
restart. Lowering a limit below what is in use drops nothing; it stops admission until use has fallen.

**Strict** (the default in `prod`): an invalid file or variable stops the start. Otherwise it is logged, the next
source is used, and `config_problems` in `GET /admin/status` lists it.

## Modes

| mode | max_depth | max_parallel_branches |
| --- | --- | --- |
"""

#: Sections by the prefix of their keys; a key belongs to the longest that fits.
_SECTIONS: tuple[tuple[str, str], ...] = (
    ("speculation.", "Speculation"),
    ("speculation.stake.", "Stake"),
    ("speculation.proof.", "Proofs and their workers"),
    ("speculation.limits.", "Limits"),
    ("speculation.features.", "Features"),
    ("circuit_breaker.", "Circuit breaker"),
    ("chain.", "Chain"),
    ("claim_", "Claims"),
    ("agents.", "Agents and tasks"),
    ("tasks.", "Agents and tasks"),
    ("proof.", "Prover"),
    ("scaling.", "Scaling"),
    ("admin.", "Server"),
    ("store.", "Log and snapshots"),
    ("ray.", "Cluster"),
    ("log.", "Logs and traces"),
    ("tracing.", "Logs and traces"),
    ("", "Process"),
)


def configuration_page() -> str:
    """The whole page, as Markdown."""
    return "".join(_page())


def _page() -> Iterator[str]:
    yield _INTRODUCTION
    for mode, values in MODES.items():
        depth, branches = values.values()
        kept = "what is set, else " if mode == "custom" else ""
        yield f"| `{mode}` | {kept}{depth} | {kept}{branches} |\n"
    for title in dict.fromkeys(title for _, title in _SECTIONS):
        keys = [key for key in KEYS.values() if _title_of(key) == title]
        if keys:
            yield f"\n## {title}\n\n| key | type | default | range | |\n| --- | --- | --- | --- | --- |\n"
            yield from map(_row, keys)


def _title_of(key: Key) -> str:
    fitting = [(prefix, title) for prefix, title in _SECTIONS if key.name.startswith(prefix)]
    return max(fitting)[1]


def _row(key: Key) -> str:
    unit = f", {key.unit}" if key.unit else ""
    words = [key.doc, *_remarks(key)]
    cells = (f"`{key.name}`", f"{key.kind}{unit}", _default(key), key.range_text, " ".join(words))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _remarks(key: Key) -> Iterator[str]:
    if key.restart_only:
        yield "*Restart only.*"
    if key.secret:
        yield "*Never shown.*"
    for (name, choice), profiles in ONLY_IN.items():
        if name == key.name:
            yield f"`{choice}` only in {', '.join(sorted(profiles))}."


def _default(key: Key) -> str:
    if key.default is None:
        return key.default_doc
    return f"`{_literal(key.kind, key.default)}`"


def _literal(kind: Kind, value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:,}".replace(",", "_") if kind is Kind.INT else str(value)
