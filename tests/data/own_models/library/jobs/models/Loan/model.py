from library.models import Loan

__all__ = ["Loan"]
