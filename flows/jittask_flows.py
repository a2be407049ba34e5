"""The flows that prefect.yaml points at: one for each task Type of this app, and the sync."""

from pathlib import Path

from jittask_prefect.running.flows import flows_of

globals().update(flows_of(Path(__file__).parent))
