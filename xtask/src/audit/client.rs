//! The client's view: what was answered with 201 exists, and what exists was asked for.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::books::Books;
use super::{Check, Finding, Invariant, Kind, Source};
use crate::shop::Service;

const BOTH: &[Source] = &[Source::Client, Source::Database(Service::Order)];

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "accepted-orders-exist",
        promise: "every 201 that the client saw has an order",
        kind: Kind::Always,
        reads: BOTH,
        check: Check::Books(none_lost),
    },
    Invariant {
        name: "orders-were-asked-for",
        promise: "every order was accepted before the client's eyes, or has a key under which it asked",
        kind: Kind::AtRest,
        reads: BOTH,
        check: Check::Books(no_ghosts),
    },
];

fn none_lost(books: &Books) -> Finding {
    Finding::of(&books.client.accepted, |id| {
        (!books.orders.contains_key(id)).then(|| format!("order {id} was accepted, but does not exist"))
    })
}

fn no_ghosts(books: &Books) -> Finding {
    let mut keys: BTreeMap<Uuid, BTreeSet<&str>> = BTreeMap::new();
    for (scope, order) in &books.keys {
        // A key is kept together with its customer.
        keys.entry(*order)
            .or_default()
            .extend(scope.split_once(':').map(|(_, key)| key));
    }
    let client = &books.client;
    Finding::of(books.orders.keys(), |id| {
        let attempted = || {
            keys.get(id)
                .is_some_and(|keys| keys.iter().any(|key| client.attempted.contains(*key)))
        };
        (!client.accepted.contains(id) && !attempted()).then(|| format!("order {id} was never asked for"))
    })
}
