from datatypes.Meta import datatypes
from models.NormalType import NormalModel


class CustomerModel(NormalModel):
    id = datatypes.AutoInt(name="id", title="id", primaryKey=True, readOnly=1)
    nick = datatypes.Stext(name="nick", title="Name")

    class Meta:
        modelType = "NormalType"
        name = "CustomerModel"
        db = "databases.Default"
        unionIndexList = []
