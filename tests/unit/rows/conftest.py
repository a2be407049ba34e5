from shop import postgres, shop  # noqa: F401  fixtures
