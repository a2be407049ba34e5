"""The flows that prefect.yaml points at: one for each task Type of this app, and the sync."""

from pathlib import Path

from jittask_prefect import App
from jittask_prefect.running.flows import flows_of

globals().update(flows_of(App(Path(__file__).parent)))
