from shop import on, postgres, server, shop  # noqa: F401  fixtures
