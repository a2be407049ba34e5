"""Parts of `growth.py`: the servers of a measurement, and the processor time of each kind of process."""
