"""`agenc worker`: one more host for the proof workers of a cluster, until Ctrl-C or SIGTERM."""

import asyncio
import signal
from typing import Annotated

import typer

from coordinator.cli.errors import CliError


def worker(
    ray_address: Annotated[str, typer.Option(help="The head of the Ray cluster, HOST:PORT.")],
    slots: Annotated[int, typer.Option(help="How many proof workers may run here.", min=1, max=64)] = 1,
    host: Annotated[
        str,
        typer.Option(
            help="Address of the health and metrics endpoint; it needs no token and shows no secret."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its port; 0 takes a free one.", min=0, max=65535)] = 9091,
    node_address: Annotated[
        str | None, typer.Option(help="This host's address in the cluster, where Ray would choose another.")
    ] = None,
) -> None:
    """Join a Ray cluster, offer slots for proof workers and serve port 9091; SIGTERM drains and leaves.

    The coordinator (agenc up --ray-address …) finds the slots and fills them. Ray's token comes from RAY_AUTH_TOKEN or
    RAY_AUTH_TOKEN_PATH.
    """
    from coordinator import logs
    from workers.host import HostConfig, run_host
    from workers.messages import StartError

    logs.configure("info")
    config = HostConfig(ray_address=ray_address, slots=slots, host=host, port=port, node_address=node_address)

    async def until_stopped() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await run_host(config, stop)

    try:
        asyncio.run(until_stopped())
    except StartError as error:
        raise CliError(str(error)) from None
