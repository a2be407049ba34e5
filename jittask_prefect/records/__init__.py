"""Everything that only reads: lists of records, upcoming tasks, a row's history, statistics, their texts and charts."""
