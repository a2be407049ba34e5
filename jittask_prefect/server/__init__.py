"""The embedded Prefect server and worker of `jittask up`."""
