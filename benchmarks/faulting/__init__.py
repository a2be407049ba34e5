"""The campaign of faults: a cluster and its commands, the load, the clock of recoveries, and the counters."""
