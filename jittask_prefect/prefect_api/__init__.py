"""Prefect's API: calls, answers, links into its UI."""
