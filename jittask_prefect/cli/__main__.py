"""`python -m jittask_prefect.cli` is the command `jittask`."""

from __future__ import annotations

from jittask_prefect.cli.commands import main

if __name__ == "__main__":
    main()
