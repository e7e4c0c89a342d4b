"""Reads a cluster file, the YAML that ``ray up`` takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from coablate_platform.study.errors import InputError, did_you_mean

PLACEHOLDER = "FILL-IN"
"""Stands in a cluster file where a value is missing."""
EDIT = "# EDIT:"
"""Begins the comment that says what a value must be."""


@dataclass(frozen=True, kw_only=True)
class ClusterFile:
    """A cluster file.

    Args:
        path: where it lies.
        text: its text.
        values: its values, as YAML has them.
    """

    path: Path
    text: str
    values: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "ClusterFile":
        """Read a cluster file; Ray's schema is checked by :mod:`coablate_platform.cluster.local_checks`.

        Raises:
            InputError: there is no such file, it is no YAML mapping, or Ray has no such provider.
        """
        try:
            text = path.read_text()
            values = yaml.safe_load(text)
        except OSError as error:
            raise InputError(f"cluster file {path}: cannot be read ({error.strerror})") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"cluster file {path}: no valid YAML ({reason})") from None
        provider = values.get("provider") if isinstance(values, dict) else None
        if not isinstance(provider, dict) or "cluster_name" not in values or "type" not in provider:
            raise InputError(
                f"cluster file {path}: expected cluster_name and provider.type; cluster.yaml is an example"
            )
        _check_provider(path, provider["type"])
        return cls(path=path, text=text, values=values)

    @property
    def name(self) -> str:
        """The cluster's name."""
        return str(self.values["cluster_name"])

    @property
    def provider(self) -> str:
        """What starts its hosts, by Ray's name: ``aws``, ``local``, …"""
        return str(self.values["provider"]["type"])

    @property
    def node_configs(self) -> dict[str, dict[str, Any]]:
        """How hosts of each type are started: name of the type -> what its provider is asked for."""
        types = self.values.get("available_node_types") or {}
        return {name: kind.get("node_config") or {} for name, kind in types.items() if isinstance(kind, dict)}

    @property
    def hourly_prices(self) -> dict[str, float]:
        """What a host costs, in dollars an hour, by the name of its type; types without a price are left out."""
        listed = (self.values.get("metadata") or {}).get("hourly_usd") or {}
        instances = {name: config.get("InstanceType") for name, config in self.node_configs.items()}
        return {name: float(listed[instance]) for name, instance in instances.items() if instance in listed}

    def placeholders(self) -> list[tuple[int, str]]:
        """Return the lines where a value is missing: (number from 1, the comment that says what it must be)."""
        lines = [(number, *line.partition(EDIT)) for number, line in enumerate(self.text.splitlines(), 1)]
        return [
            (number, comment.strip())
            for number, value, _, comment in lines
            if PLACEHOLDER in value and not value.lstrip().startswith("#")
        ]


def _check_provider(path: Path, provider: str) -> None:
    from ray.autoscaler._private.providers import _NODE_PROVIDERS  # imports Ray

    if provider not in _NODE_PROVIDERS:
        raise InputError(
            f"cluster file {path}: Ray has no provider {provider!r}{did_you_mean(provider, _NODE_PROVIDERS)}"
        )
