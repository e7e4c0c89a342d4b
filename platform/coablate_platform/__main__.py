"""``python -m coablate_platform`` is the ``coablate`` command."""

from coablate_platform.cli import main

main()
