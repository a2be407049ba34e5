from library.models import DeviceLoan

__all__ = ["DeviceLoan"]
