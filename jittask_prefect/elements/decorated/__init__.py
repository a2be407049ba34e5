"""Tasks as decorated functions: the decorators, the pieces of a rule, the app's modules, and their configuration."""
