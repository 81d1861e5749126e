"""A key as people and programs are shown it: value, provenance, range; never a secret."""

from coordinator.answers_admin import ConfigKey
from coordinator.settings import Settings
from coordinator.settings_table import Key, Value


def key_view(settings: Settings, key: Key) -> ConfigKey:
    """One key of the settings in force."""
    provenance = settings.provenance(key.name)
    return ConfigKey(
        value=_shown(key, settings.effective(key.name)),
        source=provenance.source,
        detail=provenance.detail,
        default=_shown(key, key.default),
        type=key.kind,
        range=key.range_text,
        unit=key.unit,
        restart_only=key.restart_only,
        description=key.doc,
    )


def _shown(key: Key, value: Value) -> Value:
    if key.secret:
        return None if value is None else "(set)"
    return int(value) if isinstance(value, float) and value.is_integer() else value
