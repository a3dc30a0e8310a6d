//! Parcels and mails: one of each kind an order, and no parcel before the money.

use std::collections::BTreeMap;

use super::books::Books;
use super::{Check, Finding, Invariant, Kind, Source};
use crate::shop::Service;

const WAREHOUSE: &[Source] = &[Source::Database(Service::Warehouse)];
const EMAIL: &[Source] = &[Source::Database(Service::Email)];

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "one-shipment-per-order",
        promise: "an order is sent once",
        kind: Kind::Always,
        reads: WAREHOUSE,
        check: Check::Sql {
            looked_at: "select count(*) from shipments",
            breaches: "select 'order ' || order_id || ' has ' || count(*) || ' shipments'
                       from shipments group by order_id having count(*) > 1",
        },
    },
    Invariant {
        name: "nothing-leaves-the-house-unpaid",
        promise: "a parcel is handed over only when the money was taken, and not given back but for a return",
        kind: Kind::Always,
        reads: &[Source::Database(Service::Warehouse), Source::Database(Service::Payment)],
        check: Check::Books(paid_before_sent),
    },
    Invariant {
        name: "parcels-come-to-an-end",
        promise: "every parcel was delivered, or never will be sent",
        kind: Kind::AtRest,
        reads: WAREHOUSE,
        check: Check::Sql {
            looked_at: "select count(*) from shipments",
            breaches: "select 'the parcel of order ' || order_id || ' is still ' || state
                       from shipments where state in ('SCHEDULED', 'DISPATCHED')",
        },
    },
    Invariant {
        name: "one-mail-per-order-and-template",
        promise: "no mail is sent twice",
        kind: Kind::Always,
        reads: EMAIL,
        check: Check::Sql {
            looked_at: "select count(*) from notifications",
            breaches: "select 'order ' || order_id || ' has ' || count(*) || ' mails ' || template
                       from notifications group by order_id, template having count(*) > 1",
        },
    },
    Invariant {
        name: "sent-mails-are-told-once",
        promise: "for each mail that was sent, or given up, one event says so",
        kind: Kind::Always,
        reads: EMAIL,
        check: Check::Books(mails_are_told),
    },
    Invariant {
        name: "no-mail-waits",
        promise: "every mail was sent, or given up",
        kind: Kind::AtRest,
        reads: EMAIL,
        check: Check::Sql {
            looked_at: "select count(*) from notifications",
            breaches: "select template || ' of order ' || order_id || ' is ' || state
                       from notifications where state in ('WAITING', 'PENDING')",
        },
    },
    Invariant {
        name: "no-mail-was-given-up",
        promise: "every mail found its reader",
        kind: Kind::AtRest,
        reads: EMAIL,
        check: Check::Sql {
            looked_at: "select count(*) from notifications",
            breaches: "select template || ' of order ' || order_id || ' was given up after ' || attempts || ' attempts'
                       from notifications where state = 'FAILED'",
        },
    },
];

fn paid_before_sent(books: &Books) -> Finding {
    let sent = |state: &str| ["DISPATCHED", "DELIVERED"].contains(&state);
    let parcels = books.shipments.iter().filter(|(_, state)| sent(state));
    Finding::of(parcels, |(order, shipment)| {
        let Some(payment) = books.payments.get(order) else {
            return Some(format!(
                "the parcel of order {order} is {shipment}, but nothing was ever to be paid"
            ));
        };
        let undone = payment.state != "SUCCEEDED" && payment.cause.as_deref() != Some("GOODS_RETURNED");
        (payment.captured == 0 || undone).then(|| {
            format!(
                "the parcel of order {order} is {shipment}, but its payment is {}",
                payment.state
            )
        })
    })
}

fn mails_are_told(books: &Books) -> Finding {
    let mut counts: BTreeMap<_, (usize, usize)> = BTreeMap::new();
    for (order, templates) in books.settled_mails() {
        if books.is_recent(order) {
            counts.entry(order).or_default().0 = templates.len();
        }
    }
    for (order, events) in books.told_of_orders(Service::Email) {
        counts.entry(order).or_default().1 = events.len();
    }
    Finding::of(counts, |(order, (mails, told))| {
        (mails != told).then(|| format!("{mails} mails of order {order} were sent or given up, but {told} told"))
    })
}
