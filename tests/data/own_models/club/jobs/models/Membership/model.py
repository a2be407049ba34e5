from club.models import Membership

__all__ = ["Membership"]
