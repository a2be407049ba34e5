"""Q expressions, the `filter` of a task: text, tree, SQL condition."""
