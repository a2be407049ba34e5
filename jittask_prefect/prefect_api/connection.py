"""HTTP requests to a Prefect server: authentication, further attempts, tokens against forged requests."""

from __future__ import annotations

import base64
import itertools
import random
import ssl
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, TypeVar

import certifi
import httpx

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.prefect_api.answers import Fields
from jittask_prefect.prefect_api.settings import ClientSettings

# Prefect's client by itself waits 60 s for an answer and makes five more attempts: a server that hangs would hold a
# sync for seven minutes. Here a call ends after 96 s, after 6 s where the server answers 503.
TIMEOUT = 30.0
RETRIES = 2
RETRIED_STATUSES = (408, 429, 502, 503)
# As in `prefect/client/base.py`. A refused connection counts only once the server was there: a wrong address fails at
# once.
RETRIED_ERRORS = (httpx.TimeoutException, httpx.NetworkError, httpx.ProtocolError)

T = TypeVar("T")


class Connection:
    """A connection to the API of one server; several threads may use it.

    Args:
        url: The API's address.
        settings: Authentication, TLS and limits.
    """

    def __init__(self, url: str, settings: ClientSettings) -> None:
        self.url = url
        self._csrf = settings.csrf
        self._retries = min(RETRIES, settings.retries)
        self._connected = False
        self._http = httpx.Client(
            base_url=url,
            headers={**_authorization(settings), **settings.headers},
            timeout=min(TIMEOUT, settings.timeout),
            verify=_tls(
                url.startswith("https:"),
                settings.verify_tls,
                settings.certificate_file,
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
        read: Callable[[Any], T],
        *,
        body: Any = None,
        timeout: float | None = None,
    ) -> T:
        """Make a request.

        Args:
            method: `GET`, `POST`, …
            path: The path behind the API's address.
            read: Makes an object of the answer's JSON; raises ValueError where the answer is no such object.
            body: Sent as JSON.
            timeout: How long an attempt may take, in seconds; that of the settings where absent.

        Raises:
            NotFound: The server answers 404.
            PrefectApiError: The server gives no answer, refuses, or answers something else than Prefect's API.
        """
        request = f"{method} {path}"
        try:
            response = self._attempts(method, path, body, timeout)
            response.raise_for_status()
            return read(response.json() if response.content else None)
        except httpx.HTTPStatusError as error:
            status, text = error.response.status_code, error.response.text
            kind = NotFound if status == 404 else PrefectApiError
            raise kind(
                f"{request}: the Prefect server at {self.url} answered {status}: "
                f"{' '.join(text.split())[:400]}"
            ) from error
        except httpx.HTTPError as error:
            raise PrefectApiError(
                f"{request}: no answer from the Prefect server at {self.url} ({type(error).__name__}: {error}); "
                "is it running? `jittask up` starts one, PREFECT_API_URL names another"
            ) from error
        except (ValueError, RecursionError, httpx.InvalidURL) as error:
            reason = next(iter(str(error).splitlines()), "")[:200]
            raise PrefectApiError(
                f"{request}: the server at {self.url} answered with something else than Prefect's API does ({reason}); "
                "PREFECT_API_URL must name one, e.g. http://127.0.0.1:4200/api"
            ) from error

    def _attempts(
        self, method: str, path: str, body: Any, timeout: float | None
    ) -> httpx.Response:
        """The answer to a request, after as many attempts as are allowed."""
        limit = httpx.USE_CLIENT_DEFAULT if timeout is None else timeout
        for attempt in itertools.count(1):
            last, wait = attempt > self._retries, 2.0**attempt
            try:
                response = self._http.request(method, path, json=body, timeout=limit)
            except RETRIED_ERRORS as error:
                refused = isinstance(error, httpx.ConnectError)
                if last or (refused and not self._connected):
                    raise
            else:
                self._connected = True
                if self._csrf and _lacks_token(response) and not last:
                    self._fetch_token()
                    continue
                if last or response.status_code not in RETRIED_STATUSES:
                    return response
                wait = _retry_after(response) or wait
                if wait > TIMEOUT:
                    return response
            # Clients that were refused together come again one after the other.
            time.sleep(wait * random.uniform(1, 1.2))
        raise AssertionError("unreachable")

    def _fetch_token(self) -> None:
        """Get a token against forged requests (`prefect/server/api/csrf_token.py`), for all requests to come."""
        client = str(uuid.uuid4())
        response = self._http.get("/csrf-token", params={"client": client})
        response.raise_for_status()
        token = Fields(response.json()).text("token")
        self._http.headers.update(
            {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}
        )


class NotFound(PrefectApiError):
    """There is no such object on the server."""


def _authorization(settings: ClientSettings) -> dict[str, str]:
    if settings.auth_string:
        token = base64.b64encode(settings.auth_string.encode()).decode()
        return {"Authorization": f"Basic {token}"}
    return {"Authorization": f"Bearer {settings.key}"} if settings.key else {}


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


def _retry_after(response: httpx.Response) -> float | None:
    """How many seconds the server asks to wait (RFC 9110, 10.2.3); None where it does not say."""
    header = response.headers.get("Retry-After", "")
    if header.isdecimal():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
