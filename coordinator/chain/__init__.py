"""The chain as the coordinator sees it, and a whole one in a local file."""
