"""The shell acts: it makes the core's decisions durable, then carries them out."""
