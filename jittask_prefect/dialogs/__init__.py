"""The dialogs: deployments whose Run forms in the Prefect UI make, change, end and start tasks."""
