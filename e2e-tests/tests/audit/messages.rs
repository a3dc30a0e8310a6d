//! Faults of outboxes, inboxes, streams, dead letters and traces.

use e2e_tests::Service::{Analytics, Inventory, Payment};

use super::{Fault, Planted, invented, rewritten, sql};

/// An event of the inbox becomes a dead letter.
const BURIED: &str = "
    insert into dead_letters (consumer, event_id, state, reason, attempts, event_type, subject, nats_subject, stream,
                              stream_sequence, headers, payload)
    select consumer, event_id, 'dead', 'planted', 1, 'shop.order.OrderPlaced.v1', 'planted', 'shop.order.OrderPlaced',
           'ORDER', 1000000, '{}', ''
    from inbox where consumer = 'analytics' order by event_id limit 1;";

const OUTBOX: &str = "lane, event_id, event_type, nats_subject, subject, sequence, correlation_id, causation_id, \
    occurred_at, traceparent, tracestate, payload";

pub(crate) fn faults() -> Vec<Fault> {
    let mut faults = outboxes();
    faults.extend(inboxes());
    faults.extend([
        Fault::planted(
            "the-streams-hold-each-event-once",
            Planted::Message { told_before: true },
        ),
        Fault::planted("nobody-else-publishes", Planted::Message { told_before: false })
            .also(&["events-are-handled-once"]),
        sql(
            "compensations-run-in-reverse",
            Inventory,
            rewritten(
                "e.event_type like '%.InventoryReleased.%'",
                r#"'{"causation_id": null}'"#,
            ),
        ),
        sql(
            "an-order-is-one-trace",
            Payment,
            rewritten(
                "e.event_type like '%.PaymentSucceeded.%'",
                r#"'{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}'"#,
            ),
        ),
    ]);
    faults
}

fn outboxes() -> Vec<Fault> {
    let listed = "event_type like '%.ProductListed.%' and subject = 'KETTLE'";
    vec![
        sql(
            "sequences-are-gapless",
            Inventory,
            "update outbox_sequence set sequence = sequence + 1 where subject = 'KETTLE'",
        ),
        sql(
            "an-event-is-written-once",
            Inventory,
            format!(
                "insert into outbox_archive (stream, stream_sequence, events)
                 select stream, stream_sequence, array[e] from outbox_archive, unnest(events) as e
                 where e.{listed}"
            ),
        )
        .also(&["sequences-are-gapless"]),
        sql(
            "outboxes-are-empty",
            Inventory,
            format!(
                "insert into outbox ({OUTBOX}) select {OUTBOX} from outbox_published where {listed};
                 update outbox_archive set events = array(select e from unnest(events) as e where not (e.{listed}))"
            ),
        ),
        sql(
            "the-streams-hold-what-was-published",
            Inventory,
            format!(
                "insert into outbox_sequence values ('GHOST', 1);
                 insert into outbox_archive (stream, stream_sequence, events) values ('INVENTORY', 1000000, {})",
                invented("shop.inventory.ProductListed.v1", "GHOST")
            ),
        ),
    ]
}

fn inboxes() -> Vec<Fault> {
    vec![
        sql(
            "events-are-handled-once",
            Analytics,
            "delete from inbox where event_id = (select event_id from inbox where consumer = 'analytics' limit 1)",
        ),
        sql("nothing-is-both-handled-and-dead", Analytics, BURIED)
            .also(&["events-are-handled-once", "no-dead-letter-is-open"]),
        sql(
            "no-dead-letter-is-open",
            Analytics,
            format!("{BURIED} delete from inbox where event_id in (select event_id from dead_letters)"),
        ),
        sql(
            "nothing-was-handled-that-nobody-told",
            Analytics,
            "insert into inbox (consumer, event_id) values ('analytics', gen_random_uuid())",
        ),
    ]
}
