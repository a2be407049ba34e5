from datetime import date

from sqlmodel import Field, SQLModel


class Orders(SQLModel, table=True):
    __tablename__ = "orders"

    OrderID: int = Field(primary_key=True)
    CustomerID: str
    EmployeeID: int
    OrderDate: date
    RequiredDate: date = Field(index=True)
    ShippedDate: date | None = None
    Freight: float
    ShipCountry: str
