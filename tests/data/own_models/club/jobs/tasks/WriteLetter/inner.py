def customFunc(membership):
    membership.letters += 1
