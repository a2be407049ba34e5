"""Folders in the form of JitTask: the names that their code imports, rows with `.value`, and notes of parts that are not carried over."""
