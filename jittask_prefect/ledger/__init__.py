"""The tasks' tables: who writes them, when, and under which condition."""
