"""The operator's runbook, block by block. A package, so that its tests share one system."""
