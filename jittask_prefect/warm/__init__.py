"""The Prefect worker type `jittask`: worker, children, fork servers, pipe."""
