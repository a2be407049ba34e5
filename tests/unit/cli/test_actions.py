"""The commands that act: what they print of a pause, also where Prefect is away."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from shop import Shop

from jittask_prefect.cli import actions, doctor, options
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger import pause
from jittask_prefect.running import sync_flow

Make = Callable[..., Shop]


@pytest.fixture
def s(shop: Make, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = shop()
    monkeypatch.setattr(actions, "the_app", lambda: made.app)
    monkeypatch.setattr(sync_flow, "connect", lambda app: made.api)
    monkeypatch.setattr(sync_flow.guard, "require", lambda *_, **__: None)
    return made


def test_a_pause_and_its_end(s: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    actions.pause()
    assert (
        capsys.readouterr().out
        == "test is paused since now; `jittask resume` ends the pause.\n"
    )
    assert s.api.all_deployments["tasks.Task"]["paused"]
    s.at("2026-03-02 08:30")
    actions.pause()
    assert "is paused since 2026-03-02 08:00 UTC" in capsys.readouterr().out
    actions.resume()
    assert (
        capsys.readouterr().out
        == "test was paused since 2026-03-02 08:00 UTC, and goes on.\n"
    )
    assert not s.api.all_deployments["tasks.Task"]["paused"]
    actions.resume()
    assert capsys.readouterr().out == "test is not paused.\n"


def test_a_pause_holds_while_prefect_is_away(
    s: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise PrefectApiError("no answer")

    monkeypatch.setattr(sync_flow, "connect", away)
    actions.pause()
    assert pause.paused_since(s.app) == s.now
    assert "Prefect is told by the next sync: no answer" in capsys.readouterr().err


def test_a_pause_during_a_sync(
    s: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_flow, "run_sync", lambda *_: None)
    actions.pause()
    told = "A sync is at work; the next one does the rest in Prefect."
    assert told in capsys.readouterr().out
    paused = {n: d["paused"] for n, d in s.api.all_deployments.items()}
    assert paused.pop("tasks.Task")
    assert not any(paused.values())  # the sync and the dialogs never rest


def test_queries_and_doctor_say_that_the_app_is_paused(
    s: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    options.warn_of_pause(s.app)
    assert capsys.readouterr().err == ""
    pause.pause(s.app, s.now)
    options.warn_of_pause(s.app)
    told = "the app is paused since 2026-03-02 08:00 UTC: `jittask resume`"
    assert told in capsys.readouterr().err
    found = [f.text for f in doctor._database(s.app, "", s.now) if f.about == "app"]
    assert found == [
        "the app is paused since 2026-03-02 08:00:00 UTC: `jittask resume` ends the pause"
    ]
