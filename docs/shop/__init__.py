"""The demo's tasks as decorated functions, for the pages of the guide; `tests/guide/` compares them with `flows/`."""
