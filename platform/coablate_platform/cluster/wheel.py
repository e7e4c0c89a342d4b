"""Builds the wheel that a cluster's hosts install: this very version of Coablate, and its constraints."""

import shutil
import subprocess
import sys
from pathlib import Path

from coablate_platform.study.errors import InputError

CONSTRAINTS = "constraints.txt"
BUILD_WAIT_S = 120


def shipped_folder() -> Path:
    """Return the folder that cluster files ship to the hosts (``file_mounts``)."""
    return Path.home() / ".coablate" / "cluster"


def build_wheel(target: Path) -> Path:
    """Build the wheel of the code at hand into a folder, with its constraints beside it.

    Args:
        target: the folder; wheels in it are replaced.

    Returns:
        The wheel's path.

    Raises:
        InputError: Coablate does not run from its checkout, or the wheel cannot be built.
    """
    checkout = _checkout()
    target.mkdir(parents=True, exist_ok=True)
    for former in target.glob("*.whl"):
        former.unlink()
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=BUILD_WAIT_S)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(
            f"the wheel of {checkout} cannot be built ({reason}); install hatchling: pip install hatchling"
        )
    shutil.copyfile(checkout / CONSTRAINTS, target / CONSTRAINTS)
    return next(target.glob("*.whl"))


def _checkout() -> Path:
    """Return the checkout that this process runs from."""
    folder = Path(__file__).resolve().parents[3]
    if not (folder / "pyproject.toml").is_file() or not (folder / CONSTRAINTS).is_file():
        raise InputError(
            f"Coablate runs from {Path(__file__).parents[1]}, which is no checkout, and a wheel is built from one; "
            "install it there: pip install --constraint constraints.txt --editable ."
        )
    return folder
