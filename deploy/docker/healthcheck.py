"""Docker's question whether the container is well: `/health` of the coordinator, or of a worker node."""

import sys
import urllib.request

PORTS = (9090, 9091)
TIMEOUT_S = 2


def answers(port: int) -> bool:
    """Whether `/health` on that port says 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=TIMEOUT_S) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if any(answers(port) for port in PORTS) else 1)
