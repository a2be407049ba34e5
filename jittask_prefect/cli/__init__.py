"""The command `jittask`."""
