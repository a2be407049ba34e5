"""The argument `digest`: the e.json that says the same, and what is said of other values."""

from __future__ import annotations

from pathlib import Path

import pytest
from marked import declare, problems


def task(argument: str) -> str:
    return f"@date_field_task(Appointment.starts_at, digest={argument})\ndef tell(rows): ...\n"


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("Appointment.patient_id", {"by": "patient_id"}),
        ('"patient_id"', {"by": "patient_id"}),
        ('"patient__born"', {"by": "patient__born"}),
        ('{"by": "patient__born"}', {"by": "patient__born"}),
        ("True", {}),
        ("{}", {}),
    ],
)
def test_the_key_of_an_argument(
    tmp_path: Path, given: str, key: dict[str, str]
) -> None:
    assert declare(tmp_path, task(given)).config["digest"] == key


@pytest.mark.parametrize("given", ["None", "False"])
def test_no_digest(tmp_path: Path, given: str) -> None:
    assert "digest" not in declare(tmp_path, task(given)).config


@pytest.mark.parametrize(
    ("given", "found", "allowed"),
    [
        ("3", "found 3;", "Appointment.owner_id"),
        ("Patient.born", "Patient.born, which is not of Appointment", "as text"),
        ("Appointment", "Appointment", "True for all"),
        ('{"of": "patient_id"}', "of", "by"),
        ('"patient id"', "patient id", "relationship__column"),
    ],
)
def test_a_wrong_argument(tmp_path: Path, given: str, found: str, allowed: str) -> None:
    [problem] = problems(tmp_path, task(given))
    assert ": digest" in problem
    assert found in problem
    assert allowed in problem


def test_a_digest_and_rows_at_once(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, task("True, parallel=4"))
    assert ": parallel: found 4 with digest; allowed: 1 with a digest" in problem
