"""What a model is: which classes are taken, which are refused, and with what words."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_files import only
from mappings import FORMS
from sqlalchemy import inspect

from jittask_prefect import App
from jittask_prefect.elements import registry
from jittask_prefect.testing import build_app

E_JSON = {"type": "models.NormalType", "title": "Model"}
BASE = """
from datetime import datetime
from sqlalchemy import ForeignKey, Table, Column, Integer, MetaData, select
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, registry, relationship

class Base(DeclarativeBase):
    pass

"""
CONTRACT = f"""{BASE}
class Contract(Base):
    __tablename__ = "contract"
    id: Mapped[int] = mapped_column(primary_key=True)
    ends: Mapped[datetime | None]
"""


def app_of(folder: Path, name: str = "test", **models: str) -> App:
    """An app of some models: names and texts of `model.py`."""
    elements = {
        f"models/{model}": {"e.json": E_JSON, "model.py": source}
        for model, source in models.items()
    }
    return build_app(folder / "app", elements, ready=False, name=name)


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the team's own modules, importable."""
    folder = tmp_path / "team"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and name.startswith("shop_"):
            del sys.modules[name]


@pytest.mark.parametrize("name", FORMS)
def test_each_form_of_mapping_is_a_model(tmp_path: Path, name: str) -> None:
    app = app_of(tmp_path, Contract=FORMS[name].source)
    assert app.check() == []
    assert inspect(app.getElement("models.Contract")).primary_key
    app.close()


@pytest.mark.parametrize(
    "source, found, allowed",
    [
        (
            f"{BASE}class Contract(Base):\n    __abstract__ = True\n",
            "class Contract, an abstract base, which has no table",
            "a class with a table, derived from the base",
        ),
        (
            "class Contract: pass\n",
            "class Contract, which SQLAlchemy does not map",
            "a class that SQLAlchemy maps: SQLModel with table=True",
        ),
        (
            f"{CONTRACT}\nclass Lease(Contract):\n    __tablename__ = 'lease'\n"
            "    id: Mapped[int] = mapped_column(primary_key=True)\n"
            "    __mapper_args__ = {'concrete': True}\n",
            "class Contract, mapped with concrete inheritance: equal keys stand in several tables",
            "single-table or joined inheritance",
        ),
        (
            f"{BASE}class Contract(Base):\n    __tablename__ = 'contract'\n    id: Mapped[int]\n",
            "could not assemble any primary key columns",
            "primary_key=True",
        ),
        (
            f"{BASE}class Contract: pass\ntable = Table('t', MetaData(), Column('id', Integer, primary_key=True))\n"
            "registry().map_imperatively(Contract, table)\nregistry().map_imperatively(Contract, table)\n",
            "already has a primary mapper defined",
            "one mapping for each class",
        ),
        (
            f"{BASE}class A(Base):\n    __tablename__ = 'a'\n    id: Mapped[int] = mapped_column(primary_key=True)\n"
            "class B(Base):\n    __tablename__ = 'b'\n    id: Mapped[int] = mapped_column(primary_key=True)\n",
            "found A, B; allowed: class Contract",
            "a class that SQLAlchemy maps",
        ),
    ],
)
def test_a_class_that_can_be_no_model(
    tmp_path: Path, source: str, found: str, allowed: str
) -> None:
    said = str(only(app_of(tmp_path, Contract=source).check()))
    assert said.startswith("models/Contract/")
    assert found in said and allowed in said
    assert "\n" not in said


def test_an_imported_class_of_another_name_is_the_model(
    tmp_path: Path, team: Path
) -> None:
    (team / "shop_a.py").write_text(CONTRACT)
    (team / "shop_b.py").write_text(CONTRACT)  # another base, the same name
    first = "from shop_a import Contract\n"
    app = app_of(tmp_path, Contract=first, OtherContract="from shop_b import Contract")
    assert app.check() == []
    assert app.getElement("models.OtherContract").__module__ == "shop_b"
    assert app.getElement("models.Contract").__module__ == "shop_a"


def test_two_model_elements_over_one_class(tmp_path: Path, team: Path) -> None:
    (team / "shop_a.py").write_text(CONTRACT)
    imported = "from shop_a import Contract\n"
    said = str(only(app_of(tmp_path, Alpha=imported, Beta=imported).check()))
    assert said == (
        "models/Beta/e.json: model.py: found class Contract, which is models.Alpha already; "
        "allowed: one model element for each class"
    )


def test_modules_of_the_team_that_import_each_other(tmp_path: Path, team: Path) -> None:
    (team / "shop_a.py").write_text("from shop_b import Customer\nclass Contract: ...")
    (team / "shop_b.py").write_text("from shop_a import Contract\nclass Customer: ...")
    said = str(only(app_of(tmp_path, Contract="from shop_a import Contract").check()))
    assert said.startswith("models/Contract/model.py: line 1: found ImportError: ")
    assert "partially initialized module 'shop_a'" in said
    assert said.endswith(
        "allowed: modules that do not import each other: name the other class as a text in relationship(), "
        "and import its module under TYPE_CHECKING"
    )


def test_an_imported_class_outlives_its_app(tmp_path: Path, team: Path) -> None:
    (team / "shop_a.py").write_text(CONTRACT)
    app = app_of(tmp_path, Contract="from shop_a import Base, Contract\n")
    cls = app.getElement("models.Contract")
    assert registry.owners_of(cls) == [(app, "models.Contract")]

    app.close()
    assert registry.owners_of(cls) == []
    assert "contract" in cls.metadata.tables
    assert cls.__name__ in cls.registry._class_registry


def test_a_class_of_two_apps_and_of_its_base(tmp_path: Path, team: Path) -> None:
    (team / "shop_a.py").write_text(f"{CONTRACT}\nclass Lease(Contract):\n    pass\n")
    both = {
        "Contract": "from shop_a import Contract",
        "Lease": "from shop_a import Lease",
    }
    one = app_of(tmp_path / "1", "one", **both)
    two = app_of(tmp_path / "2", "two", **both)
    lease = one.getElement("models.Lease")
    two.getElement("models.Lease")
    assert registry.owners_of(lease) == [
        (one, "models.Lease"),
        (two, "models.Lease"),
        (one, "models.Contract"),
        (two, "models.Contract"),
    ]
    assert registry.name_in(two, lease) == "models.Lease"
    one.close()
    assert registry.owners_of(lease) == [
        (two, "models.Lease"),
        (two, "models.Contract"),
    ]
    two.close()


def test_an_app_that_is_loaded_anew_owns_its_classes_alone(
    tmp_path: Path, team: Path
) -> None:
    (team / "shop_a.py").write_text(CONTRACT)
    before = app_of(tmp_path, Contract="from shop_a import Contract")
    cls = before.getElement("models.Contract")
    after = App(before.path)
    assert after.getElement("models.Contract") is cls
    assert registry.owners_of(cls) == [(after, "models.Contract")]
    assert registry.name_in(before, cls) == "models.Contract"
    after.close()


ORDERS = """
    __tablename__ = "{table}"
    id: Mapped[int] = mapped_column(primary_key=True)
    other_id: Mapped[int | None] = mapped_column(ForeignKey("{other}.id"))
    others: Mapped["{cls}"] = relationship(foreign_keys="{own}.other_id")
"""


@pytest.mark.parametrize("first", ["models.Alpha", "models.Beta"])
def test_relationships_between_elements_in_any_order(
    tmp_path: Path, team: Path, first: str
) -> None:
    (team / "shop_base.py").write_text(BASE)
    alpha = ORDERS.format(table="alpha", other="beta", cls="Beta", own="Alpha")
    beta = ORDERS.format(table="beta", other="alpha", cls="Alpha", own="Beta")
    app = app_of(
        tmp_path,
        Alpha=f"from shop_base import *\nclass Alpha(Base):{alpha}",
        Beta=f"from shop_base import *\nclass Beta(Base):{beta}",
    )
    app.getElement(first)
    assert app.check() == []
    assert {
        r.mapper.class_.__name__
        for r in inspect(app.getElement("models.Alpha")).relationships
    } == {"Beta"}
    app.close()


def test_a_thread_that_imports_the_team_s_module_meanwhile(
    tmp_path: Path, team: Path
) -> None:
    """The thread holds Python's lock of the module, and asks for an element: neither thread waits for ever."""
    (team / "shop_a.py").write_text(
        "import shop_meeting\nshop_meeting.importing.set()\nshop_meeting.asked.wait(20)\n"
        f"shop_meeting.app.getElement('services.Plain')\n{CONTRACT}"
    )
    (team / "shop_meeting.py").write_text(
        "import threading\nimporting, asked, app = threading.Event(), threading.Event(), None\n"
    )
    app = app_of(
        tmp_path,
        Contract="import shop_meeting\nshop_meeting.asked.set()\nfrom shop_a import Contract",
    )
    service = app.path / "services/Plain"
    service.mkdir(parents=True)
    (service / "e.json").write_text('{"type": "services.NormalType", "title": "Plain"}')
    (service / "service.py").write_text(
        "from jittask_prefect import NormalService\nclass Plain(NormalService): pass"
    )
    import shop_meeting  # type: ignore[import-not-found]

    shop_meeting.app = app
    other = threading.Thread(target=__import__, args=("shop_a",), daemon=True)
    other.start()
    assert shop_meeting.importing.wait(20)
    assert app.getElement("models.Contract").__name__ == "Contract"
    other.join(20)
    assert not other.is_alive()
