"""The Prefect worker type `jittask`: worker, children, pipe."""
