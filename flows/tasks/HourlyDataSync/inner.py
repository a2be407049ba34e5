def customFunc() -> dict[str, int]:
    return app.getElement("services.FeedSvc").importFeed()
