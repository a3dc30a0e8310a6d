//! Traces: one order is one trace, kept across every outbox.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::books::Books;
use super::{Check, Finding, Invariant, Kind, Source};
use crate::shop::Service;

pub(super) const INVARIANTS: &[Invariant] = &[Invariant {
    name: "an-order-is-one-trace",
    promise: "every event of an order continues its trace, or that of the wish to cancel or return it",
    kind: Kind::Always,
    reads: &[
        Source::Database(Service::Order),
        Source::Database(Service::Payment),
        Source::Database(Service::Inventory),
        Source::Database(Service::Warehouse),
        Source::Database(Service::Email),
    ],
    check: Check::Books(one_trace),
}];

fn one_trace(books: &Books) -> Finding {
    let all = Service::ALL.map(|service| (service, books.told_of_orders(service)));
    let mut begun: BTreeMap<Uuid, BTreeSet<&str>> = BTreeMap::new();
    for (id, order) in &books.orders {
        begun.entry(*id).or_default().extend(order.trace.as_deref());
    }
    for (id, event) in all
        .iter()
        .flat_map(|(_, told)| told)
        .flat_map(|(id, events)| events.iter().map(move |e| (id, e)))
    {
        // Nothing on the broker caused it: somebody asked for it by HTTP. The first must be the order's own.
        if event.causation_id.is_none() && event.name() != "OrderPlaced" {
            begun.entry(*id).or_default().extend(event.trace());
        }
    }
    let mut finding = Finding::default();
    for (service, told) in &all {
        let events = told
            .iter()
            .flat_map(|(id, events)| events.iter().map(move |event| (id, event)));
        finding = finding.and(Finding::of(events, |(id, event)| {
            let traces = begun.get(id).filter(|traces| !traces.is_empty())?;
            let trace = event.trace().unwrap_or("none");
            (!traces.contains(trace)).then(|| {
                format!(
                    "{} of order {id}, told by {service}, is of trace {trace}, not {traces:?}",
                    event.name()
                )
            })
        }));
    }
    finding
}
