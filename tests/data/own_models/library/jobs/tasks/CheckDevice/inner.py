async def customFunc(loan):
    return loan.deposit
