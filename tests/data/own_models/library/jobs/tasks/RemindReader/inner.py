def customFunc(loan):
    loan.reminders += 1
    return f"{loan.kind} {loan.id}"
