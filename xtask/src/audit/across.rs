//! Across services: what an order came to is what everybody did for it.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::books::{Books, Return, Units};
use super::{Check, Finding, Invariant, Kind, Source};
use crate::shop::Service;

const DOERS: &[Source] = &[
    Source::Database(Service::Order),
    Source::Database(Service::Payment),
    Source::Database(Service::Inventory),
    Source::Database(Service::Warehouse),
];
const MAILS: &[Source] = &[Source::Database(Service::Order), Source::Database(Service::Email)];

/// States in which the customer has the goods, or had them.
const SOLD: [&str; 3] = ["COMPLETED", "RETURNING", "REFUNDED"];

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "completed-orders-are-done",
        promise: "a completed order is paid in full, but for its returns; its goods are committed and its parcel delivered",
        kind: Kind::AtRest,
        reads: DOERS,
        check: Check::Books(completed_are_done),
    },
    Invariant {
        name: "cancelled-orders-are-undone",
        promise: "a cancelled order has cost nothing, holds nothing, and nothing of it was sent",
        kind: Kind::AtRest,
        reads: DOERS,
        check: Check::Books(cancelled_are_undone),
    },
    Invariant {
        name: "orders-have-the-right-mails",
        promise: "confirmed and shipped for a completed order; cancelled, and never shipped, for a cancelled one",
        kind: Kind::AtRest,
        reads: MAILS,
        check: Check::Books(right_mails),
    },
    Invariant {
        name: "everything-belongs-to-an-order",
        promise: "nobody pays, holds, sends or writes for an order that does not exist",
        kind: Kind::Always,
        reads: &[
            Source::Database(Service::Order),
            Source::Database(Service::Payment),
            Source::Database(Service::Inventory),
            Source::Database(Service::Warehouse),
            Source::Database(Service::Email),
        ],
        check: Check::Books(belongs_to_an_order),
    },
    Invariant {
        name: "the-money-is-the-same-everywhere",
        promise: "what delivered orders cost less refunds = what payments kept = the ledger = the gateway = revenue",
        kind: Kind::AtRest,
        reads: &[
            Source::Database(Service::Order),
            Source::Database(Service::Payment),
            Source::Database(Service::Analytics),
            Source::Gateway,
        ],
        check: Check::Books(same_money),
    },
    Invariant {
        name: "the-pieces-are-the-same-everywhere",
        promise: "as many pieces of each article were ordered and delivered as were committed, sold and counted",
        kind: Kind::AtRest,
        reads: &[
            Source::Database(Service::Order),
            Source::Database(Service::Inventory),
            Source::Database(Service::Analytics),
        ],
        check: Check::Books(same_pieces),
    },
    Invariant {
        name: "analytics-has-counted-every-order",
        promise: "as many orders were placed, completed and cancelled as there are",
        kind: Kind::AtRest,
        reads: &[Source::Database(Service::Order), Source::Database(Service::Analytics)],
        check: Check::Books(all_counted),
    },
];

fn completed_are_done(books: &Books) -> Finding {
    Finding::of(books.in_state(&SOLD), |(id, order)| {
        let mut wrong = Vec::new();
        let (captured, refunded) = money(books, *id);
        let known: i64 = order.returns.values().map(Return::back).sum();
        let back_is_right = refunded == known && (order.state != "REFUNDED" || refunded == captured);
        if captured != order.total || !back_is_right {
            wrong.push(format!(
                "{captured} of {} were taken and {refunded} went back",
                order.total
            ));
        }
        match books.reservations.get(id) {
            Some(reservation) if reservation.state != "COMMITTED" => {
                wrong.push(format!("its goods are {}", reservation.state));
            }
            Some(reservation) if reservation.units != order.units => {
                wrong.push(format!(
                    "{:?} were ordered and {:?} sold",
                    order.units, reservation.units
                ));
            }
            Some(_) => {}
            None => wrong.push("its goods were never held".to_owned()),
        }
        match books.shipments.get(id).map(String::as_str) {
            Some("DELIVERED") => {}
            shipment => wrong.push(format!("its parcel is {}", shipment.unwrap_or("unknown"))),
        }
        complaint(*id, &order.state, &wrong)
    })
}

fn cancelled_are_undone(books: &Books) -> Finding {
    Finding::of(books.in_state(&["CANCELLED"]), |(id, order)| {
        let mut wrong = Vec::new();
        let (captured, refunded) = money(books, *id);
        if captured != refunded {
            wrong.push(format!("{captured} were taken and {refunded} went back"));
        }
        let held = books.reservations.get(id).map(|reservation| reservation.state.as_str());
        if let Some(state @ ("HELD" | "COMMITTED")) = held {
            wrong.push(format!("its goods are {state}"));
        }
        let shipment = books.shipments.get(id).map(String::as_str);
        if let Some(state @ ("SCHEDULED" | "DISPATCHED" | "DELIVERED")) = shipment {
            wrong.push(format!("its parcel is {state}"));
        }
        complaint(*id, &order.state, &wrong)
    })
}

fn complaint(id: Uuid, state: &str, wrong: &[String]) -> Option<String> {
    (!wrong.is_empty()).then(|| format!("order {id} is {state}, but {}", wrong.join(", and ")))
}

/// Taken and given back.
fn money(books: &Books, order: Uuid) -> (i64, i64) {
    let payment = books.payments.get(&order);
    payment.map_or((0, 0), |payment| (payment.captured, payment.refunded))
}

fn right_mails(books: &Books) -> Finding {
    let mails = books.settled_mails();
    let ended = books.in_state(&["COMPLETED", "RETURNING", "REFUNDED", "CANCELLED"]);
    Finding::of(ended, |(id, order)| {
        let sent = mails.get(id).map_or(&[][..], Vec::as_slice);
        let count = |template: &str| sent.iter().filter(|one| **one == template).count();
        let sent_as = (
            count("order_confirmed"),
            count("order_shipped"),
            count("order_cancelled"),
        );
        let right = match order.state.as_str() {
            "COMPLETED" | "RETURNING" | "REFUNDED" => sent_as == (1, 1, 0),
            _ => matches!(sent_as, (0 | 1, 0, 1)),
        };
        (!right).then(|| format!("order {id} is {}, but its mails are {sent:?}", order.state))
    })
}

fn belongs_to_an_order(books: &Books) -> Finding {
    let payments = books.payments.keys().map(|id| (id, "payment"));
    let reservations = books.reservations.keys().map(|id| (id, "reservation"));
    let shipments = books.shipments.keys().map(|id| (id, "shipment"));
    let mails = books.mails.iter().map(|mail| (&mail.order_id, "mail"));
    let all = payments.chain(reservations).chain(shipments).chain(mails);
    Finding::of(all, |(id, what)| {
        (!books.orders.contains_key(id)).then(|| format!("a {what} is for order {id}, which does not exist"))
    })
}

fn same_money(books: &Books) -> Finding {
    let delivered = || books.in_state(&SOLD);
    let back: i64 = delivered().map(|(id, _)| money(books, *id).1).sum();
    let sums = [
        (
            "delivered orders",
            delivered().map(|(_, order)| order.total).sum::<i64>() - back,
        ),
        (
            "payments",
            books
                .payments
                .values()
                .map(|payment| payment.captured - payment.refunded)
                .sum(),
        ),
        ("the ledger", books.sales_account),
        (
            "the gateway",
            books.charges.iter().map(|charge| charge.amount - charge.refunded).sum(),
        ),
        ("analytics", books.analytics.revenue),
    ];
    let distinct: BTreeSet<i64> = sums.iter().map(|(_, sum)| *sum).collect();
    let told = sums.map(|(who, sum)| format!("{who} {sum}")).join(", ");
    Finding {
        looked_at: sums.len(),
        breaches: if distinct.len() == 1 { Vec::new() } else { vec![told] },
    }
}

fn same_pieces(books: &Books) -> Finding {
    let ordered = sum(books.in_state(&SOLD).map(|(_, order)| &order.units));
    let committed = books.reservations.values().filter(|held| held.state == "COMMITTED");
    let committed = sum(committed.map(|reservation| &reservation.units));
    let (sold, counted) = (&books.sold, &books.analytics.units);
    let skus: BTreeSet<&String> = [&ordered, &committed, sold, counted]
        .into_iter()
        .flat_map(BTreeMap::keys)
        .collect();
    Finding::of(skus, |sku| {
        let pieces = [&ordered, &committed, sold, counted].map(|units| units.get(sku).copied().unwrap_or(0));
        let [ordered, committed, sold, counted] = pieces;
        (pieces != [ordered; 4]).then(|| {
            format!("{sku}: {ordered} ordered and delivered, {committed} committed, {sold} sold, {counted} counted")
        })
    })
}

fn sum<'a>(of: impl Iterator<Item = &'a Units>) -> Units {
    let mut sum = Units::new();
    for (sku, pieces) in of.flatten() {
        *sum.entry(sku.clone()).or_default() += pieces;
    }
    sum
}

fn all_counted(books: &Books) -> Finding {
    let there = [
        ("placed", books.orders.len()),
        ("completed", books.in_state(&SOLD).count()),
        ("cancelled", books.in_state(&["CANCELLED"]).count()),
    ];
    Finding::of(there, |(step, there)| {
        let counted = books.analytics.counted.get(step).copied().unwrap_or(0);
        (i64::try_from(there) != Ok(counted)).then(|| format!("{there} orders were {step}, but {counted} are counted"))
    })
}
