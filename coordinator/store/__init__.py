"""What must not be lost: the event log, and the witnesses and proofs beside it."""
