"""Time, pure: which instants a timer means. No Prefect, no SQL, no files, no clock of its own."""
