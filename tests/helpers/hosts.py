"""Hosts on this machine: each with its own network, mounts, processes, shared memory and name, and an SSH server.

They share the checkout, its environment and this machine's temporary folder, as hosts share a network drive. Their
network is a bridge in a namespace of its own, without a route to anywhere else.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BRIDGE = "bridge"
GATEWAY = "10.77.0.1"
LAPTOP_PATH = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = {
    "ip": "iproute2",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "unshare": "util-linux",
}
WITH_THE_TEST = ("setpriv", "--pdeathsig", "KILL")
"""Ends a host also where the test is killed."""
_UP_S = 20.0
SSHD = """
Port 22
HostKey {keys}/host
AuthorizedKeysFile {keys}/user.pub
PermitRootLogin yes
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
MaxStartups 100
Subsystem sftp internal-sftp
"""
INIT = """
set -e
while ! ip link show eth0 >/dev/null 2>&1; do sleep 0.1; done
mount -t proc proc /proc
hostname {name}
ip addr add {address}/24 dev eth0
ip link set lo up
ip link set eth0 up
ip route add default via {gateway}
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd /tmp/ray
mount --bind {own}/ray /tmp/ray
{kept}
mount --rbind {own}/home /root
exec /usr/sbin/sshd -D -e -f {keys}/sshd_config
"""
"""Ray finds a host's address by its default route."""


def skip_reason() -> str:
    """Return why hosts cannot be made here; empty where they can."""
    if os.geteuid() != 0:
        return "hosts of one's own need root"
    if missing := [package for program, package in PROGRAMS.items() if shutil.which(program, path=LAPTOP_PATH) is None]:
        return f"hosts need the Debian packages {', '.join(missing)}"
    if subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True).returncode:
        return "hosts need namespaces, which this machine does not let root make (in a container?)"
    return ""


@dataclass(kw_only=True)
class Host:
    """A host: the process that holds its namespaces, and the first process in them."""

    address: str
    outer: subprocess.Popen[bytes]
    first: int


@dataclass(kw_only=True)
class Network:
    """A network of hosts, and a laptop on it, whose home is a folder of the test.

    Args:
        folder: for keys, homes and what hosts keep to themselves.
        holder: the process that holds the network's namespace.
    """

    folder: Path
    holder: subprocess.Popen[bytes]
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The laptop's home."""
        return self.folder / "laptop"

    @property
    def key(self) -> Path:
        """The private key with which every host can be reached."""
        return self.folder / "keys" / "user"

    def start(self, name: str, address: str) -> None:
        """Start a host, and wait until its SSH server answers."""
        own = self.folder / name
        for part in ("ray", "home"):
            (own / part).mkdir(parents=True, exist_ok=True)
        places = {"own": own, "keys": self.folder / "keys", "kept": _kept_in(own / "home")}
        init = INIT.format(name=name, address=address, gateway=GATEWAY, **places)
        spaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--propagation", "private"]
        with (own / "host.log").open("w") as log:
            outer = subprocess.Popen(
                [*WITH_THE_TEST, "unshare", *spaces, "bash", "-c", init],
                env={"PATH": LAPTOP_PATH, "HOME": "/root", "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        first = _child_of(outer)
        self.hosts[name] = Host(address=address, outer=outer, first=first)
        link = _link(address)
        self._in_network("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(first))
        self._in_network("ip", "link", "set", link, "master", BRIDGE, "up")
        deadline = time.monotonic() + _UP_S
        while self.ssh(name, "true").returncode:
            assert time.monotonic() < deadline, (own / "host.log").read_text()
            time.sleep(0.2)

    def kill(self, name: str) -> None:
        """End a host as a power cut does: its processes at once, its connections without a word."""
        host = self.hosts.pop(name)
        os.kill(host.first, signal.SIGKILL)
        host.outer.wait()
        link = [*self.prefix, "ip", "link", "del", _link(host.address)]
        subprocess.run(link, capture_output=True, env={"PATH": LAPTOP_PATH})  # it may be gone with the host by now

    def ssh(self, name: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a host, as a user does who logs in there."""
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        login = ["ssh", "-i", str(self.key), *options, f"root@{self.hosts[name].address}", f"bash -ic {command!r}"]
        return subprocess.run([*self.prefix, *login], capture_output=True, text=True, stdin=subprocess.DEVNULL)

    @property
    def prefix(self) -> list[str]:
        """What puts a command into the network."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def laptop(self, *words: object) -> subprocess.Popen[str]:
        """Type ``coablate`` on the laptop."""
        return subprocess.Popen(
            [*self.prefix, sys.executable, "-P", "-m", "coablate_platform", *map(str, words)],
            env={"PATH": LAPTOP_PATH, "HOME": str(self.home), "LANG": "C.UTF-8", "RAY_AUTH_MODE": "token"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def _in_network(self, *words: str) -> None:
        subprocess.run([*self.prefix, *words], check=True, capture_output=True, env={"PATH": LAPTOP_PATH})


def _link(address: str) -> str:
    """Return the name of the bridge's end of the cable to a host."""
    return f"v{address.rpartition('.')[2]}"


def _kept_in(home: Path) -> str:
    """Return the commands that keep what the tests' own Python needs of /root, which the home will hide."""
    needed = {str(ROOT), sys.prefix, sys.base_prefix}
    kept = {folder: f"{home}{folder.removeprefix('/root')}" for folder in needed if folder.startswith("/root/")}
    return "\n".join(f"mkdir -p {place} && mount --rbind {folder} {place}" for folder, place in kept.items())


def _child_of(outer: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    deadline = time.monotonic() + _UP_S
    while not (found := children.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(found[0])


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """Make a network without hosts for the block, and end all its hosts after it."""
    if reason := skip_reason():
        pytest.skip(reason)
    keys = folder / "keys"
    keys.mkdir()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    (keys / "sshd_config").write_text(SSHD.format(keys=keys))
    with contextlib.ExitStack() as stack:
        holder = subprocess.Popen([*WITH_THE_TEST, "unshare", "--net", "sleep", "infinity"])
        stack.callback(holder.wait)
        stack.callback(holder.kill)
        made = Network(folder=folder, holder=holder)
        made.home.mkdir()
        deadline = time.monotonic() + _UP_S
        while Path(f"/proc/{holder.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        made._in_network("ip", "link", "set", "lo", "up")
        made._in_network("ip", "link", "add", BRIDGE, "type", "bridge")
        made._in_network("ip", "addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        made._in_network("ip", "link", "set", BRIDGE, "up")
        stack.callback(lambda: [made.kill(name) for name in list(made.hosts)])
        yield made
