//! Faults of returns: goods that came back twice or never, money that went back twice or never.

use e2e_tests::Service::{Email, Inventory, Order, Payment, Warehouse};

use super::{Fault, sql};

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        sql(
            "every-return-has-come-to-an-end",
            Order,
            changed("'{restocked}', 'null'", "state = 'REFUNDED'"),
        )
        .also(&[
            "orders-are-what-their-facts-say",
            "returns-are-told-once",
        ]),
        sql(
            "no-more-comes-back-than-was-bought",
            Order,
            changed("'{lines,0,quantity}', '1000'", "state = 'REFUNDED'"),
        )
        .also(&["returns-are-the-same-everywhere"]),
        sql(
            "returns-are-told-once",
            Order,
            changed("'{told}', 'false'", "state = 'COMPLETED'"),
        )
        .also(&["returns-have-the-right-mails"]),
        sql(
            "returned-pieces-are-on-the-shelf-once",
            Inventory,
            "update stock_movements set delta = delta + 1 where reason = 'RETURN';
             update products set on_hand = on_hand + back from (
                 select sku, count(*) as back from stock_movements where reason = 'RETURN' group by sku) as moved
             where moved.sku = products.sku",
        ),
        sql(
            "refunds-of-returns-are-booked-once",
            Payment,
            "alter table ledger disable trigger user;
             update ledger set transaction_id = gen_random_uuid()
             where transaction_id = (select refund_id from return_refunds order by return_id limit 1) and account = 'sales';
             update ledger set transaction_id = (select l.transaction_id from ledger l
                 where l.account = 'sales' and l.debit > 0 and l.order_id = ledger.order_id limit 1)
             where transaction_id = (select refund_id from return_refunds order by return_id limit 1)",
        ),
        sql(
            "returns-are-the-same-everywhere",
            Warehouse,
            "update returns set refundable = refundable + 1 where state = 'RECEIVED'",
        ),
        sql(
            "returns-have-the-right-mails",
            Email,
            "update notifications set template = replace(template, 'order_refunded', 'return_rejected')
             where template like 'order_refunded:%'",
        ),
    ]
}

/// Every return of these orders, changed by `jsonb_set`.
fn changed(how: &str, which: &str) -> String {
    format!(
        "update orders set returns = (select jsonb_object_agg(id, jsonb_set(one, {how})) from jsonb_each(returns) as t (id, one))
         where returns <> '{{}}' and {which}"
    )
}
