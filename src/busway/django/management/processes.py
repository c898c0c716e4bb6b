"""What the commands that run a part of a service have in common."""

import logging
from argparse import SUPPRESS, ArgumentParser
from typing import Any

from busway.bus.errors import ConfigurationError
from busway.bus.layer import ChannelLayer
from busway.cli.logs import LEVELS, configure_access_log, log_handler
from busway.django.layers import DEFAULT_CHANNEL_LAYER, channel_layers, is_local
from busway.supervisor.lifeline import hold_lifeline


def add_layer_argument(parser: ArgumentParser) -> None:
    """Add the option that names the layer."""
    parser.add_argument(
        "--layer",
        default=DEFAULT_CHANNEL_LAYER,
        help="Alias in CHANNEL_LAYERS. Default: %(default)s.",
    )


def add_supervised_arguments(parser: ArgumentParser) -> None:
    """Add what the supervisor gives to its processes; see `busway.supervisor.lifeline`."""
    parser.add_argument("--ready-fd", type=int, help=SUPPRESS)
    parser.add_argument("--lifeline-fd", type=int, help=SUPPRESS)
    parser.add_argument("--process-name", help=SUPPRESS)


def begin(options: dict[str, Any], name: str) -> None:
    """Do what every process of a service does first; `name` is for one without a supervisor."""
    if options.get("lifeline_fd") is not None:
        hold_lifeline(options["lifeline_fd"])
    start_log(options.get("process_name") or name, options["verbosity"])
    configure_access_log(options.get("access_log"))


def start_log(process: str, verbosity: int) -> None:
    """Write Busway's log to standard error, unless LOGGING says where it goes."""
    logger = logging.getLogger("busway")
    if not logger.hasHandlers():
        logger.addHandler(log_handler(process))
        logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(LEVELS[min(verbosity, 2)])


def shared_layer(alias: str, command: str) -> ChannelLayer:
    """Open the layer of a process that is one of several; raises `ConfigurationError`."""
    layer = channel_layers[alias]
    if is_local(layer):
        raise ConfigurationError(
            f"the channel layer {alias!r} stays in one process, and {command} is for several that "
            f"talk over it; leave BACKEND out of CHANNEL_LAYERS[{alias!r}] for the IPC layer"
        )
    return layer
