"""The jobs of `peers.py` as other queues have them, and what starts their workers."""
