"""HTTP requests to a Prefect server: authentication, further attempts, tokens against forged requests."""

from __future__ import annotations

import base64
import itertools
import random
import ssl
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, TypeVar

import certifi
import httpx
from pydantic import TypeAdapter, ValidationError

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.prefect_api.answers import CsrfToken
from jittask_prefect.prefect_api.settings import ClientSettings

# Prefect's client by itself waits 60 s for an answer and makes five more attempts: a server that hangs would hold a
# sync for seven minutes. Here a call ends after 96 s without an answer, after 16 s where the server answers 503 at once.
TIMEOUT = 30.0
PAUSES = (2.0, 4.0)  # seconds before each further attempt
# A 503 of Prefect's own has changed nothing: its database refused the transaction (`prefect/server/api/server.py`). On
# SQLite a transaction that has read is refused at once where another one has written meanwhile (SQLITE_BUSY_SNAPSHOT,
# for which no busy timeout holds): under load several times in turn.
BUSY = 503
BUSY_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
LONGEST_PAUSE = 30.0  # a server that asks for a longer pause has refused
# Headers that Prefect's client sets by itself, and lets no setting change.
PROTECTED = ("user-agent", "prefect-csrf-token", "prefect-csrf-client")
RETRIED_STATUSES = (408, 429, 502, BUSY)
# As in `prefect/client/base.py`. A refused connection counts only once the server was there: a wrong address fails at
# once.
RETRIED_ERRORS = (httpx.TimeoutException, httpx.NetworkError, httpx.ProtocolError)

T = TypeVar("T")


class Connection:
    """A connection to the API of a server; several threads may use it.

    Args:
        url: The API's address.
        settings: Authentication, TLS and limits.
    """

    def __init__(self, url: str, settings: ClientSettings) -> None:
        self.url = url
        self._csrf = settings.csrf_support_enabled
        self._retries = settings.max_retries
        self._connected = False
        self._http = httpx.Client(
            base_url=url,
            headers=_headers(settings),
            timeout=min(TIMEOUT, settings.request_timeout),
            verify=_tls(
                url.startswith("https:"),
                not settings.tls_insecure_skip_verify,
                settings.ssl_cert_file,
            ),
            follow_redirects=True,
            # Prefect Cloud's balancer closes a connection after 30 s (`prefect/client/orchestration`).
            limits=httpx.Limits(
                max_connections=16, max_keepalive_connections=8, keepalive_expiry=25
            ),
        )

    def call(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: Any = None,
        timeout: float | None = None,
    ) -> T:
        """Make a request.

        Args:
            method: `GET`, `POST`, …
            path: The path behind the API's address.
            kind: The answer's type: a class of `answers`, or a type of JSON.
            body: Sent as JSON.
            timeout: How long an attempt may take, in seconds; that of the settings where absent.

        Raises:
            NotFound: The server answers 404.
            PrefectApiError: The server gives no answer, refuses, or answers something else than Prefect's API.
        """
        return self._answer(method, path, kind, body, timeout)[0]

    def dated(
        self, path: str, kind: type[T], clock: Callable[[], datetime]
    ) -> tuple[T, tuple[float, float] | None]:
        """Get an answer, and how far the clock of whoever answers is ahead of this machine's.

        Args:
            path: The path behind the API's address.
            kind: The answer's type.
            clock: Gives the present instant by this machine's clock.

        Returns:
            The answer; the least and the greatest offset in seconds, None where the answer has no `Date`.

        Raises:
            PrefectApiError: As of `call`.
        """
        sent = clock().timestamp()
        answer, response = self._answer("GET", path, kind, None, None)
        received = clock().timestamp()
        try:
            date = _instant(response.headers.get("Date", "")).timestamp()
        except ValueError:
            return answer, None
        # The header has whole seconds.
        return answer, (date - received, date + 1 - sent)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _answer(
        self, method: str, path: str, kind: type[T], body: Any, timeout: float | None
    ) -> tuple[T, httpx.Response]:
        request = f"{method} {path}"
        try:
            response = self._attempts(method, path, body, timeout)
            response.raise_for_status()
            found = response.json() if response.content else None
            # mypy takes no class for hashable.
            answer: T = _reader(kind).validate_python(found)  # type: ignore[arg-type]
            return answer, response
        except httpx.HTTPStatusError as error:
            status, text = error.response.status_code, error.response.text
            kind_of_error = NotFound if status == 404 else PrefectApiError
            raise kind_of_error(
                f"{request}: the Prefect server at {self.url} answered {status}: "
                f"{' '.join(text.split())[:400]}"
            ) from error
        except httpx.HTTPError as error:
            raise PrefectApiError(f"{request}: {self._no_answer(error)}") from error
        except (ValueError, RecursionError, httpx.InvalidURL) as error:
            raise PrefectApiError(
                f"{request}: the server at {self.url} answered with something else than Prefect's API does "
                f"({_reason(error)}); PREFECT_API_URL must name one, e.g. http://127.0.0.1:4200/api"
            ) from error

    def _no_answer(self, error: httpx.HTTPError) -> str:
        """The message about a request without an answer: the reason, and the next step."""
        reason = f"({type(error).__name__}: {error})"
        asked, own = error.request.url, self._http.base_url
        if (asked.scheme, asked.host, asked.port) != (own.scheme, own.host, own.port):
            return (
                f"the server at {self.url} redirects to {asked}, which gives no answer {reason}; a balancer must pass on the "
                "header Host with its port, and PREFECT_API_URL begin with https where the server does"
            )
        return (
            f"no answer from the Prefect server at {self.url} {reason}; "
            "is it running? `jittask up` starts one, PREFECT_API_URL names another"
        )

    def _attempts(
        self, method: str, path: str, body: Any, timeout: float | None
    ) -> httpx.Response:
        """The answer to a request, with a token where the server asks for one."""
        response = self._asked(method, path, body, timeout)
        if self._csrf and _lacks_token(response):
            self._fetch_token()
            response = self._asked(method, path, body, timeout)
        return response

    def _asked(
        self, method: str, path: str, body: Any, timeout: float | None
    ) -> httpx.Response:
        """The answer to a request, after as many attempts as are allowed."""
        limit = httpx.USE_CLIENT_DEFAULT if timeout is None else timeout
        for attempt in itertools.count():
            try:
                response = self._http.request(method, path, json=body, timeout=limit)
            except RETRIED_ERRORS as error:
                wait = self._pause(attempt, PAUSES)
                refused = isinstance(error, httpx.ConnectError)
                if wait is None or (refused and not self._connected):
                    raise
            else:
                self._connected = True
                wait = self._pause_after(response, attempt)
                if wait is None:
                    return response
            # Spread, so that clients that were refused together do not come again together.
            time.sleep(wait * random.uniform(1, 1.2))
        raise AssertionError("unreachable")

    def _pause(self, attempt: int, pauses: Sequence[float]) -> float | None:
        """The pause after an attempt, counted from 0; None where no further one is allowed."""
        return pauses[attempt] if attempt < min(len(pauses), self._retries) else None

    def _pause_after(self, response: httpx.Response, attempt: int) -> float | None:
        """The pause after an answer; None where the answer stands."""
        if response.status_code not in RETRIED_STATUSES:
            return None
        busy = response.status_code == BUSY
        wait = self._pause(attempt, BUSY_PAUSES if busy else PAUSES)
        if wait is None:
            return None
        wait = _retry_after(response) or wait
        return wait if wait <= LONGEST_PAUSE else None

    def _fetch_token(self) -> None:
        """Get a token against forged requests (`prefect/server/api/csrf_token.py`), for all requests to come."""
        client = str(uuid.uuid4())
        response = self._asked("GET", f"/csrf-token?client={client}", None, None)
        response.raise_for_status()
        token = _reader(CsrfToken).validate_python(response.json()).token
        self._http.headers.update(
            {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}
        )


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _reason(error: Exception) -> str:
    """Why an answer is refused, as a line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the answer"
        return f"{place}: {first['msg']}"
    return next(iter(str(error).splitlines()), "")[:200]


class NotFound(PrefectApiError):
    """There is no such object on the server."""


def _headers(settings: ClientSettings) -> dict[str, str]:
    headers = {}
    if settings.auth_string:
        token = base64.b64encode(settings.auth_string.encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    elif settings.key:
        headers["Authorization"] = f"Bearer {settings.key}"
    custom = settings.custom_headers
    return headers | {n: v for n, v in custom.items() if n.lower() not in PROTECTED}


@cache
def _tls(secure: bool, verify: bool, certificate_file: str | None) -> ssl.SSLContext:
    """The TLS settings. Certificates are read, which takes 20 ms, only where the address is `https`."""
    if not secure:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if verify:
        return ssl.create_default_context(cafile=certificate_file or certifi.where())
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _lacks_token(response: httpx.Response) -> bool:
    return response.status_code == 403 and "CSRF token" in response.text


def _instant(header: str) -> datetime:
    """The instant of a header; raises ValueError where there is none."""
    return parsedate_to_datetime(header).replace(tzinfo=UTC)


def _retry_after(response: httpx.Response) -> float | None:
    """How many seconds the server asks to wait (RFC 9110, 10.2.3); None where the server does not say.

    An instant counts from the response's own `Date`: both are of the server's clock.
    """
    header = response.headers.get("Retry-After", "")
    if header.isdecimal():
        return float(header)
    try:
        until, sent = map(_instant, (header, response.headers.get("Date", "")))
    except ValueError:
        return None
    return max(0.0, (until - sent).total_seconds())
