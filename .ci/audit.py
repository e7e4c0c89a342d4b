"""Looks up known vulnerabilities of pinned packages: ``python .ci/audit.py PIP_AUDIT CONSTRAINTS``.

``pip-audit`` ends with 0 where it finds no data about a package, as behind a mirror of the package index. Here that is
said: no data at all is a skipped audit, data for some packages only is an incomplete one.

Exit codes: 0 no vulnerability is known, or the audit was skipped; 1 some are known.
"""

import json
import subprocess
import sys

SECONDS = 300


def audited(command: str, constraints: str) -> list[dict[str, object]]:
    """Return what ``pip-audit`` says of each package; nothing where it ends without an answer."""
    words = [command, "--requirement", constraints, "--no-deps", "--disable-pip", "--format", "json"]
    try:
        answer = subprocess.run(
            [*words, "--progress-spinner", "off"], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return list(json.loads(answer.stdout)["dependencies"])
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return []


def main() -> int:
    packages = audited(*sys.argv[1:3])
    known = [package for package in packages if "vulns" in package]
    if not known:
        print("== the audit of packages is skipped: pip-audit does not reach its data from here")
        return 0
    unknown = [str(package["name"]) for package in packages if "vulns" not in package]
    print(f"== {len(known)} packages audited" + (f"; no data about {', '.join(unknown)}" if unknown else ""))
    vulnerable = [package for package in known if package["vulns"]]
    for package in vulnerable:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version"
            print(f"{package['name']} {package['version']}: {found['id']}, mended in {fixed}")
    return int(bool(vulnerable))


if __name__ == "__main__":
    sys.exit(main())
