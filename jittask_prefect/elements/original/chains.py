"""`app.services.X`, `app.models.X`, `app.tasks.X`: elements as attributes of the app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jittask_prefect.errors import UnknownElement

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App


class NoSuchElement(UnknownElement, AttributeError):
    """There is no element of that name in the app."""


class Chain:
    """The elements of a folder, as attributes.

    Args:
        app: The app.
        folder: The folder's name.
    """

    def __init__(self, app: App, folder: str) -> None:
        self._app, self._folder = app, folder

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_app", "_folder"):
            raise AttributeError(name)

        try:
            return self._app.getElement(f"{self._folder}.{name}")
        except UnknownElement as error:
            raise NoSuchElement(str(error)) from None

    def __dir__(self) -> list[str]:
        return [name.partition(".")[2] for name in self._app.names(self._folder)]


class ModelChain(Chain):
    """The models, as attributes; a call gives those that load, by full name."""

    def __call__(self) -> dict[str, type[Any]]:
        """The models that load, by full name."""
        return self._app.working_models()
