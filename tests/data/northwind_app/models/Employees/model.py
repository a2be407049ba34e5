from datetime import date

from sqlmodel import Field, SQLModel


class Employees(SQLModel, table=True):
    __tablename__ = "employees"

    EmployeeID: int = Field(primary_key=True)
    Title: str
    BirthDate: date
    HireDate: date
