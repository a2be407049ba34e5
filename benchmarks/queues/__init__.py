"""The jobs of `peers.py` as other queues and this package have them, and what starts their workers."""
