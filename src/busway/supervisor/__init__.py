"""Starts the processes of a service, replaces those that die, rolls them on request."""

from busway.supervisor.children import ChildSpec
from busway.supervisor.supervisor import Supervisor

__all__ = ["ChildSpec", "Supervisor"]
