"""Tests on a real Prefect server. A package, so that server and worker end with the last of them."""
