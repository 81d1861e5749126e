"""The agents' API, a file a subject."""
