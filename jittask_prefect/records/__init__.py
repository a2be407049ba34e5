"""All that only reads: records, what is to come, one row's story, statistics."""
