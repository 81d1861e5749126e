"""The console at `/`: one page that shows what the runbook's reader needs at a glance, and its actions."""
