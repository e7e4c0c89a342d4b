"""Lets the workers of a lane talk to each other over the network interface that Ray uses.

Left to themselves, gloo and NCCL look up the host's own name, which many Linux systems give to the loopback interface:
workers on other hosts then reach nobody.
"""

import os
from typing import Any

import ray
from ray.train.backend import Backend
from ray.train.torch import TorchConfig

from coablate_platform.process import interface_of

VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def use_ray_s_interface() -> None:
    """Let gloo and NCCL use the interface of this node's address, unless the environment names one."""
    if (name := interface_of(ray.util.get_node_ip_address())) is not None:
        for variable in VARIABLES:
            os.environ.setdefault(variable, name)


class _Backend(TorchConfig().backend_cls):  # type: ignore[misc]  # ray is untyped
    """Sets the interface on every worker before the process group begins."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(use_ray_s_interface)
        super().on_start(worker_group, backend_config)


class OverRaysInterface(TorchConfig):  # type: ignore[misc]  # ray is untyped
    """Configuration of torch's process group, over the interface that Ray uses."""

    @property
    def backend_cls(self) -> type[_Backend]:
        """The backend that Ray Train starts."""
        return _Backend


class WithoutGroup(TorchConfig):  # type: ignore[misc]  # ray is untyped
    """Sets up no process group: one worker needs none, and torch's store of a group listens on all interfaces."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend  # type: ignore[no-any-return]
