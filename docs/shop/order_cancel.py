from jittask_prefect import After, date_field_task
from shop.models import Order
from shop.notices import queue_email


@date_field_task(
    Order.pay_by,
    After(hours=2),
    where=Order.status == "unpaid",
    missed={"policy": "latest", "lookback": 604800},
    row_label=Order.item,
)
def order_cancel(order):
    """Cancel overdue order"""
    order.status = "cancelled"
    order.stock_held = False
    queue_email(order.email, f"Your order of {order.item} was cancelled.")
    return {"cancelled": order.item}
