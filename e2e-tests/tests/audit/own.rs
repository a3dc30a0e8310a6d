//! Faults that a service could make on its own: stock, money, orders, parcels, mails, sessions.

use e2e_tests::Service::{Email, Inventory, Order, Payment, Warehouse};

use super::{Fault, Planted, rewritten, sql};

pub(crate) fn faults() -> Vec<Fault> {
    let mut faults = stock();
    faults.extend(money());
    faults.extend(orders());
    faults.extend(shipping());
    faults.push(Fault::planted("no-transaction-idles", Planted::IdleTransaction));
    faults
}

fn stock() -> Vec<Fault> {
    vec![
        sql(
            "stock-is-never-negative",
            Inventory,
            "alter table products drop constraint products_never_oversold, drop constraint products_on_hand_check;
             insert into stock_movements (sku, delta, reason) select sku, -1 - on_hand, 'theft' from products where sku = 'KETTLE';
             update products set on_hand = -1 where sku = 'KETTLE'",
        ),
        sql(
            "stock-is-the-sum-of-its-movements",
            Inventory,
            "update products set on_hand = on_hand + 1 where sku = 'KETTLE'",
        ),
        sql(
            "held-stock-is-what-reservations-hold",
            Inventory,
            "update products set reserved = 1 where sku = 'KETTLE'",
        ),
        sql(
            "one-reservation-per-order",
            Inventory,
            "alter table reservations drop constraint reservations_pkey;
             insert into reservations select * from reservations where state = 'RELEASED' limit 1",
        ),
        sql(
            "what-was-sold-was-committed",
            Inventory,
            "update stock_movements set order_id = gen_random_uuid()
             where id = (select min(id) from stock_movements where reason = 'SALE')",
        ),
    ]
}

fn money() -> Vec<Fault> {
    let mut faults = payments();
    faults.extend(gateway());
    faults
}

fn payments() -> Vec<Fault> {
    vec![
        sql(
            "the-ledger-balances",
            Payment,
            "alter table ledger disable trigger user;
             update ledger set credit = credit + 1 where id = (select min(id) from ledger where account = 'sales')",
        )
        .also(&["the-money-is-the-same-everywhere"]),
        sql(
            "one-capture-per-order",
            Payment,
            "insert into payment_events (order_id, version, type, data)
             select order_id, payments.version + 1, 'Captured', jsonb_set(data, '{amount}', '0')
             from payment_events join payments using (order_id) where type = 'Captured' and state = 'SUCCEEDED' limit 1;
             update payments set version = version + 1
             where order_id in (select order_id from payment_events where type = 'Captured' group by 1 having count(*) > 1)",
        ),
        sql(
            "refunds-do-not-exceed-captures",
            Payment,
            "alter table payment_events disable trigger user;
             update payment_events set data = jsonb_set(data, '{amount}', '1000000') where type = 'Refunded'",
        )
        .also(&["payments-are-the-fold-of-their-events"]),
        sql(
            "payment-histories-are-gapless",
            Payment,
            "alter table payment_events disable trigger user;
             update payment_events set version = version + 1 where type = 'Declined'",
        ),
        sql(
            "payments-are-the-fold-of-their-events",
            Payment,
            "update payments set state = 'VOIDED' where state = 'DECLINED'",
        ),
        sql(
            "the-ledger-says-what-payments-say",
            Payment,
            "insert into ledger (transaction_id, account, debit, credit, order_id)
             select id, account, debit, credit, order_id
             from (select order_id from payments where state = 'DECLINED') as declined,
                  (values (gen_random_uuid(), gen_random_uuid())) as ids (one, other),
                  lateral (values (one, 'gateway_receivable', 5, 0), (one, 'sales', 0, 5),
                                  (other, 'sales', 5, 0), (other, 'gateway_receivable', 0, 5))
                      as side (id, account, debit, credit)",
        ),
        sql(
            "no-payment-is-left-unknown",
            Payment,
            "update payments set unresolved = true where state = 'DECLINED'",
        ),
    ]
}

fn gateway() -> Vec<Fault> {
    vec![
        sql(
            "captures-are-in-the-gateways-book",
            Payment,
            "update payments set payment_id = gen_random_uuid() where state = 'SUCCEEDED'",
        )
        .also(&["charges-and-refunds-of-the-gateway-are-known"]),
        Fault::planted(
            "the-gateway-charged-each-order-once",
            Planted::Charge { charged_before: true },
        )
        .also(&[
            "charges-and-refunds-of-the-gateway-are-known",
            "the-money-is-the-same-everywhere",
        ]),
        Fault::planted(
            "charges-and-refunds-of-the-gateway-are-known",
            Planted::Charge { charged_before: false },
        )
        .also(&["the-money-is-the-same-everywhere"]),
    ]
}

fn orders() -> Vec<Fault> {
    let completed = "e.subject = (select id::text from orders where state = 'COMPLETED' order by id limit 1)";
    vec![
        sql(
            "every-order-has-come-to-an-end",
            Order,
            "update orders set state = 'RETURNING' where state = 'COMPLETED'",
        )
        .also(&["orders-are-what-their-facts-say"]),
        sql(
            "one-end-is-told-of-each-order",
            Order,
            rewritten(
                &format!("e.event_type = 'shop.order.OrderCompleted.v1' and {completed}"),
                r#"'{"event_type": "shop.order.OrderFinished.v1"}'"#,
            ),
        )
        .also(&["orders-take-legal-steps", "nobody-else-publishes"]),
        sql(
            "orders-take-legal-steps",
            Order,
            rewritten(
                &format!("e.sequence in (1, 2) and {completed}"),
                "jsonb_build_object('sequence', 3 - e.sequence)",
            ),
        ),
        sql(
            "orders-are-what-their-facts-say",
            Order,
            "update orders set reason = 'OUT_OF_STOCK' where reason = 'PAYMENT_DECLINED'",
        ),
        sql(
            "facts-are-what-the-timeline-heard",
            Order,
            "update orders set facts = jsonb_set(facts, '{cancel_rejected}', 'true') where state = 'COMPLETED'",
        ),
        sql(
            "timelines-are-complete",
            Order,
            "delete from timeline where event_type = 'OrderPlaced'",
        ),
        sql(
            "totals-are-the-sum-of-the-lines",
            Order,
            "update orders set total = total + 1 where state = 'CANCELLED'",
        ),
        sql(
            "an-idempotency-key-stands-for-one-order",
            Order,
            "update idempotency_keys set order_id = gen_random_uuid()",
        ),
        Fault::planted("accepted-orders-exist", Planted::LostOrder),
        Fault::planted("orders-were-asked-for", Planted::GhostOrder),
    ]
}

fn shipping() -> Vec<Fault> {
    vec![
        sql(
            "one-shipment-per-order",
            Warehouse,
            "alter table shipments drop constraint shipments_pkey;
             insert into shipments select * from shipments where state = 'FAILED' limit 1",
        ),
        sql(
            "nothing-leaves-the-house-unpaid",
            Warehouse,
            "update shipments set state = 'DELIVERED', tracking = 'SW-1' where state = 'FAILED'",
        )
        .also(&["cancelled-orders-are-undone"]),
        sql(
            "parcels-come-to-an-end",
            Warehouse,
            "update shipments set state = 'SCHEDULED', ship_to = '{}', due_at = now() where state = 'FAILED'",
        )
        .also(&["cancelled-orders-are-undone"]),
        sql(
            "one-mail-per-order-and-template",
            Email,
            "alter table notifications drop constraint notifications_pkey;
             insert into notifications select * from notifications where template = 'order_shipped' limit 1",
        )
        .also(&["orders-have-the-right-mails", "sent-mails-are-told-once"]),
        sql(
            "sent-mails-are-told-once",
            Email,
            "delete from notifications n where template = 'order_confirmed' and exists (
                 select from notifications o where o.order_id = n.order_id and o.template = 'order_cancelled')",
        ),
        sql(
            "no-mail-waits",
            Email,
            "insert into notifications (order_id, template, notification_id, state, variables, due_at, message_id, version)
             select order_id, 'order_confirmed', gen_random_uuid(), 'PENDING', '{}', now(), '<1@example>', 1
             from recipients where order_id not in (select order_id from notifications where template = 'order_confirmed')
             limit 1",
        ),
        sql(
            "no-mail-was-given-up",
            Email,
            "update notifications set state = 'FAILED', sent_at = null where template = 'order_shipped'",
        ),
    ]
}
