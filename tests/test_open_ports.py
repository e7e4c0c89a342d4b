"""A Ray that Coablate starts answers nobody from elsewhere without its token."""

import subprocess
import sys

import pytest

PROGRAM = """
import urllib.request, urllib.error
import psutil, ray
from coablate_platform.process import start_ray
start_ray(num_cpus=1, include_dashboard=True, dashboard_host="127.0.0.1", object_store_memory=100 * 2**20)
family = psutil.Process().children(recursive=True)
ports = {c.laddr.port for p in family for c in p.net_connections("tcp") if c.status == "LISTEN"}
host = ray.util.get_node_ip_address()
for port in sorted(ports):
    for path in ("/metrics", "/"):
        try:
            with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=3) as answer:
                print("OPEN", port, path, answer.read(80))
        except (OSError, ValueError):
            pass
        except Exception:  # gRPC is no HTTP/1
            pass
print(len(ports), "ports")
ray.shutdown()
"""


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_no_port_answers_without_the_token():
    answer = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, timeout=110, check=False
    )
    assert answer.returncode == 0, answer.stderr
    *opened, count = answer.stdout.splitlines()
    assert opened == []
    assert int(count.split()[0]) > 2
