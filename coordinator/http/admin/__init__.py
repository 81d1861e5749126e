"""The operator's API, a file a subject."""
