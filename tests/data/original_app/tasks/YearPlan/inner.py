def customFunc():
    from services.NoticeSvc import NoticeSvc

    return NoticeSvc().of_whom()
