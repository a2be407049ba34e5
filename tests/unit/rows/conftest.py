from shop import on, server, servers, shop, url  # noqa: F401  fixtures
