"""The chat as a running service, on a port and a bus of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from busway.demo.store import STATE_VARIABLE
from services import Service


@contextmanager
def serve(
    state: Path,
    *,
    routing: str = "busway.demo.routing:routing",
    port: int = 0,
    options: tuple[str, ...] = (),
    cwd: Path | None = None,
) -> Iterator[tuple[Service, str]]:
    """Run the chat; returns the service and its address."""
    command = ["busway", "serve", routing, "--port", str(port), "--workers", "2", *options]
    with TemporaryDirectory(prefix="busway-test-") as bus:  # a short path, for its sockets
        layer = f"ipc://chat?directory={bus}&size=8388608"
        environment = {STATE_VARIABLE: str(state), "BUSWAY_LAYER": layer}
        with Service(command, cwd=cwd, environment=environment) as service:
            yield service, service.expect(r"http://[\w.:]+").group()
