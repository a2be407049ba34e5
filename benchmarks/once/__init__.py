"""The parts of `exactly_once.py`: the app, the oracle, the failpoints, and what its child processes do."""
