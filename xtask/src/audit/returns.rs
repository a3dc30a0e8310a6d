//! Returns: what came back was bought, is on the shelf or written off, and was paid back, each once and to the penny.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::books::{Books, Order, Return, Units};
use super::load::units;
use super::{Check, Finding, Invariant, Kind, Source};
use crate::shop::Service;

const ORDER: &[Source] = &[Source::Database(Service::Order)];
const PAYMENT: &[Source] = &[Source::Database(Service::Payment)];
const INVENTORY: &[Source] = &[Source::Database(Service::Inventory)];

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "every-return-has-come-to-an-end",
        promise: "what was to come back was rejected, or is restocked and paid back",
        kind: Kind::AtRest,
        reads: ORDER,
        check: Check::Books(has_ended),
    },
    Invariant {
        name: "no-more-comes-back-than-was-bought",
        promise: "all returns of an order that were not rejected name no more pieces than the order",
        kind: Kind::Always,
        reads: ORDER,
        check: Check::Books(bought),
    },
    Invariant {
        name: "returns-are-told-once",
        promise: "OrderReturnRequested is told once a return, and OrderRefunded once its refund and restocking were heard",
        kind: Kind::Always,
        reads: ORDER,
        check: Check::Books(told_once),
    },
    Invariant {
        name: "returned-pieces-are-on-the-shelf-once",
        promise: "the pieces of a return that came back to the shelves are those that inventory said",
        kind: Kind::Always,
        reads: INVENTORY,
        check: Check::Sql {
            looked_at: "select count(*) from restocks",
            breaches: "with said as (
                           select return_id, line->>'sku' as sku, sum((line->>'quantity')::bigint) as pieces
                           from restocks, jsonb_array_elements(lines) as line group by 1, 2
                       ), back as (
                           select return_id, sku, sum(delta) as pieces
                           from stock_movements where reason = 'RETURN' group by 1, 2
                       )
                       select 'return ' || coalesce(return_id::text, '?') || ' brought back ' || coalesce(back.pieces, 0)
                              || ' ' || sku || ', but ' || coalesce(said.pieces, 0) || ' were said'
                       from said full join back using (return_id, sku)
                       where said.pieces is distinct from back.pieces",
        },
    },
    Invariant {
        name: "refunds-of-returns-are-booked-once",
        promise: "each refund of a return is in the payment's history and the ledger, once and with its amount",
        kind: Kind::Always,
        reads: PAYMENT,
        check: Check::Sql {
            looked_at: "select count(*) from return_refunds",
            breaches: BOOKED,
        },
    },
    Invariant {
        name: "returns-are-the-same-everywhere",
        promise: "order, warehouse, inventory and payment tell the same of each return: pieces, worth and end",
        kind: Kind::AtRest,
        reads: &[
            Source::Database(Service::Order),
            Source::Database(Service::Payment),
            Source::Database(Service::Inventory),
            Source::Database(Service::Warehouse),
        ],
        check: Check::Books(same_returns),
    },
    Invariant {
        name: "returns-have-the-right-mails",
        promise: "a mail for what is expected back, and one for what was paid back or refused",
        kind: Kind::AtRest,
        reads: &[Source::Database(Service::Order), Source::Database(Service::Email)],
        check: Check::Books(right_mails),
    },
];

/// Row, history and ledger of each refund, side by side.
const BOOKED: &str = "
with history as (
    select (data->>'return_id')::uuid as return_id, count(*) filter (where type = 'ReturnRefundRequested') as requested,
           count(*) filter (where type = 'ReturnRefunded') as refunded,
           max((data->>'amount')::bigint) filter (where type = 'ReturnRefunded') as amount
    from payment_events where type like 'Return%' group by 1
), booked as (
    select transaction_id, debit as amount from ledger where account = 'sales' and debit > 0
)
select 'the refund of return ' || coalesce(return_id::text, '?') || ' is ' || coalesce(r.state, 'unknown') || ' over '
       || coalesce(r.amount, 0) || ', but its history says ' || coalesce(h.refunded, 0) || ' times '
       || coalesce(h.amount, 0) || ' and the ledger ' || coalesce(b.amount, 0)
from return_refunds r full join history h using (return_id) left join booked b on b.transaction_id = r.refund_id
where r.return_id is null or h.return_id is null or h.requested <> 1
   or h.refunded <> case r.state when 'DONE' then 1 else 0 end
   or coalesce(h.amount, r.amount) <> r.amount
   or coalesce(b.amount, 0) <> case r.state when 'DONE' then r.amount else 0 end";

fn has_ended(books: &Books) -> Finding {
    Finding::of(books.returns(), |(order, id, one)| {
        let ended = one.rejected.is_some() || (one.restocked.is_some() && one.refunded.is_some());
        (!ended).then(|| format!("return {id} of order {order} is still open: {one:?}"))
    })
}

fn bought(books: &Books) -> Finding {
    let sent_back = books.orders.iter().filter(|(_, order)| !order.returns.is_empty());
    Finding::of(sent_back, |(id, order)| {
        let mut back = Units::new();
        let kept = order.returns.values().filter(|one| one.rejected.is_none());
        for (sku, pieces) in kept.flat_map(|one| units(&one.lines)) {
            *back.entry(sku).or_default() += pieces;
        }
        let over = back
            .iter()
            .find(|(sku, pieces)| order.units.get(*sku).is_none_or(|bought| bought < *pieces));
        over.map(|(sku, pieces)| format!("{pieces} {sku} of order {id} come back, of {:?} bought", order.units))
    })
}

fn told_once(books: &Books) -> Finding {
    let told = books.told_of_orders(Service::Order);
    Finding::of(books.recent_orders(), |(id, order)| {
        let events = told.get(id).map_or(&[][..], Vec::as_slice);
        let count = |name: &str| events.iter().filter(|event| event.name() == name).count();
        let of = |is: fn(&Return) -> bool| order.returns.values().filter(|one| is(one)).count();
        let told = (count("OrderReturnRequested"), count("OrderRefunded"));
        let caused = of(|one| one.refunded.is_some() && one.restocked.is_some() && one.rejected.is_none());
        let known = (order.returns.len(), of(|one| one.told));
        (told != known || known.1 != caused).then(|| {
            format!(
                "order {id} has {} returns, {} of them paid back and {caused} with cause, but told {told:?}",
                known.0, known.1
            )
        })
    })
}

fn same_returns(books: &Books) -> Finding {
    let known: BTreeMap<&Uuid, (&Uuid, &Return)> = books.returns().map(|(order, id, one)| (id, (order, one))).collect();
    let finding = Finding::of(&known, |(id, (order, one))| {
        let wrong = disagreement(books, id, order, one)?;
        Some(format!("return {id} of order {order}: {wrong}"))
    });
    let parcels = books.parcels.keys().map(|id| (id, "the warehouse"));
    let refunds = books.refunds.keys().map(|id| (id, "payment"));
    let restocks = books.restocks.keys().map(|id| (id, "inventory"));
    finding.and(Finding::of(parcels.chain(refunds).chain(restocks), |(id, who)| {
        (!known.contains_key(id)).then(|| format!("{who} knows a return {id}, which no order does"))
    }))
}

/// What somebody says otherwise of a return, if anything.
fn disagreement(books: &Books, id: &Uuid, order: &Uuid, one: &Return) -> Option<String> {
    let Some(parcel) = books.parcels.get(id).filter(|parcel| parcel.order_id == *order) else {
        return Some("the warehouse does not await it".to_owned());
    };
    let expected = if one.rejected.is_some() { "REJECTED" } else { "RECEIVED" };
    if parcel.state != expected || units(&parcel.lines) != units(&one.lines) {
        return Some(format!(
            "the warehouse says it is {} with {:?}",
            parcel.state,
            units(&parcel.lines)
        ));
    }
    let (refund, restock) = (books.refunds.get(id), books.restocks.get(id));
    if one.rejected.is_some() {
        let untouched = refund.is_none() && restock.is_none() && parcel.refundable == 0 && !one.told;
        return (!untouched).then(|| "it was rejected, but somebody acted on it".to_owned());
    }
    let paid = refund
        .filter(|refund| refund.order_id == *order && refund.state == "DONE")
        .map(|refund| refund.amount);
    let heard = one.received.map(|(_, worth)| worth);
    if paid != Some(parcel.refundable) || heard != paid || Some(one.back()) != paid {
        return Some(format!(
            "it is worth {}, but {paid:?} went back and {} was heard",
            parcel.refundable,
            one.back()
        ));
    }
    let sellable = parcel.found.as_ref().map(sellable).unwrap_or_default();
    let shelved = restock
        .filter(|restock| restock.order_id == *order)
        .map(|restock| &restock.units);
    (shelved != Some(&sellable)).then(|| format!("{sellable:?} can be sold again, but {shelved:?} is on the shelf"))
}

fn sellable(found: &serde_json::Value) -> Units {
    let mut lines = found.as_array().cloned().unwrap_or_default();
    lines.retain(|line| line["condition"] == events::RESELLABLE);
    units(&serde_json::Value::Array(lines))
}

fn right_mails(books: &Books) -> Finding {
    let mails = books.settled_mails();
    let sent_back = books.orders.iter().filter(|(_, order)| !order.returns.is_empty());
    Finding::of(sent_back, |(id, order)| {
        let sent = mails.get(id).map_or(&[][..], Vec::as_slice);
        let mut about: Vec<&str> = sent.iter().copied().filter(|topic| topic.contains(':')).collect();
        about.sort_unstable();
        let expected = expected_mails(order);
        (about != expected).then(|| format!("order {id} needs the mails {expected:?}, but has {about:?}"))
    })
}

fn expected_mails(order: &Order) -> Vec<String> {
    let mut expected = Vec::new();
    for (id, one) in &order.returns {
        expected.push(format!("order_return_requested:{id}"));
        if one.told {
            expected.push(format!("order_refunded:{id}"));
        }
        if one.rejected.is_some() {
            expected.push(format!("return_rejected:{id}"));
        }
    }
    expected.sort_unstable();
    expected
}
