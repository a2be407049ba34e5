"""Templates as Prefect deployments: compiled, brought to a server, kept current."""
