//! Faults that only show when services are compared.

use e2e_tests::Service::{Analytics, Email, Inventory, Warehouse};

use super::{Fault, sql};

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        sql(
            "completed-orders-are-done",
            Warehouse,
            "update shipments set state = 'FAILED', tracking = null where state = 'DELIVERED'",
        ),
        sql(
            "cancelled-orders-are-undone",
            Inventory,
            "update reservations set state = 'HELD' where state = 'RELEASED' and lines <> '[]'",
        )
        .also(&["held-stock-is-what-reservations-hold"]),
        sql(
            "orders-have-the-right-mails",
            Email,
            "update notifications n set template = 'order_shipped' where template = 'order_cancelled'
             and not exists (select from notifications o where o.order_id = n.order_id and o.template <> n.template)",
        ),
        sql(
            "everything-belongs-to-an-order",
            Inventory,
            "insert into reservations (order_id, reservation_id, state, lines, version)
             values (gen_random_uuid(), gen_random_uuid(), 'RELEASED', '[]', 1)",
        ),
        sql(
            "the-money-is-the-same-everywhere",
            Analytics,
            "update sales set revenue = revenue + 1 where dimension = 'total'",
        ),
        sql(
            "the-pieces-are-the-same-everywhere",
            Analytics,
            "update sales set units = units + 1 where dimension = 'product'",
        ),
        sql(
            "analytics-has-counted-every-order",
            Analytics,
            "update counters set count = count + 1 where step = 'placed'",
        ),
    ]
}
