//! Orders: one end each, reached by legal steps, and a state that its facts explain.

use std::collections::HashSet;

use super::books::{Books, Order};
use super::{Check, Finding, Invariant, Kind, Source};
use crate::shop::Service;

const ORDER: &[Source] = &[Source::Database(Service::Order)];

/// States in which nothing changes any more by itself.
pub(super) const TERMINAL: [&str; 3] = ["COMPLETED", "CANCELLED", "REFUNDED"];
/// States of an order that was delivered.
const DELIVERED: [&str; 3] = ["COMPLETED", "RETURNING", "REFUNDED"];

/// What the order service may say next of an order. Nothing is said before `OrderPlaced`.
const STEPS: &[(&str, &[&str])] = &[
    ("", &["OrderPlaced"]),
    (
        "OrderPlaced",
        &["OrderConfirmed", "OrderCancellationRequested", "OrderCancelled"],
    ),
    (
        "OrderConfirmed",
        &["OrderCancellationRequested", "OrderCancelled", "OrderCompleted"],
    ),
    ("OrderCancellationRequested", &["OrderCancelled", "OrderCompleted"]),
    ("OrderCompleted", &["OrderReturnRequested"]),
    ("OrderReturnRequested", &["OrderReturnRequested", "OrderRefunded"]),
    ("OrderRefunded", &["OrderReturnRequested", "OrderRefunded"]),
];

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "every-order-has-come-to-an-end",
        promise: "every order is completed, cancelled or refunded",
        kind: Kind::AtRest,
        reads: ORDER,
        check: Check::Books(has_ended),
    },
    Invariant {
        name: "one-end-is-told-of-each-order",
        promise: "OrderCompleted or OrderCancelled is told once, as its state says, and never both",
        kind: Kind::Always,
        reads: ORDER,
        check: Check::Books(one_end),
    },
    Invariant {
        name: "orders-take-legal-steps",
        promise: "what is told of an order follows the edges of its states",
        kind: Kind::Always,
        reads: ORDER,
        check: Check::Books(legal_steps),
    },
    Invariant {
        name: "orders-are-what-their-facts-say",
        promise: "the state of an order is a function of its facts",
        kind: Kind::Always,
        reads: ORDER,
        check: Check::Sql {
            looked_at: "select count(*) from orders",
            breaches: STATE,
        },
    },
    Invariant {
        name: "facts-are-what-the-timeline-heard",
        promise: "an order knows a fact exactly when its timeline has the event",
        kind: Kind::Always,
        reads: ORDER,
        check: Check::Sql {
            looked_at: "select count(*) from orders",
            breaches: FACTS,
        },
    },
    Invariant {
        name: "timelines-are-complete",
        promise: "what is told of an order is in its timeline, and what it heard in the inbox",
        kind: Kind::Always,
        reads: ORDER,
        check: Check::Sql {
            looked_at: "select count(*) from timeline",
            breaches: TIMELINE,
        },
    },
    Invariant {
        name: "totals-are-the-sum-of-the-lines",
        promise: "an order costs what its lines come to",
        kind: Kind::Always,
        reads: ORDER,
        check: Check::Sql {
            looked_at: "select count(*) from orders",
            breaches: "select 'order ' || id || ' costs ' || total || ', but its lines come to ' || sum
                       from orders cross join lateral (
                           select coalesce(sum((line->>'quantity')::bigint * (line->>'unit_price')::bigint), 0) as sum
                           from jsonb_array_elements(lines) as line
                       ) as lines_of
                       where total <> sum",
        },
    },
    Invariant {
        name: "an-idempotency-key-stands-for-one-order",
        promise: "a key is stored once, with the 201 of an order that exists and has no other key",
        kind: Kind::Always,
        reads: ORDER,
        check: Check::Sql {
            looked_at: "select count(*) from idempotency_keys",
            breaches: "select 'the key ' || scope || ' is stored ' || count(*) || ' times'
                       from idempotency_keys group by scope having count(*) > 1
                       union all
                       select 'order ' || order_id || ' has ' || count(distinct scope) || ' keys'
                       from idempotency_keys group by order_id having count(distinct scope) > 1
                       union all
                       select 'the key ' || scope || ' answers ' || status || ' for order ' || order_id
                              || case when orders.id is null then ', which does not exist' else ', but says ' || left(body, 80) end
                       from idempotency_keys left join orders on orders.id = order_id
                       where orders.id is null or status <> 201 or body::json->>'id' is distinct from order_id::text",
        },
    },
];

/// Only what is certain of each state, so that a new one between them breaks nothing.
const STATE: &str = "
select 'order ' || id || ' is ' || state || coalesce(' (' || reason || ')', '') || ' at version ' || version
       || ', but its facts are ' || facts || ' and its returns ' || returns
from orders
cross join lateral (
    select coalesce(facts->>'cancelled', '') as cancelled, facts->>'delivered' is not null as delivered,
           coalesce((facts->>'completed')::boolean, false) as completed,
           coalesce((facts->>'shipped')::boolean, false) as shipped,
           coalesce((facts->>'confirmed')::boolean, false) as confirmed,
           coalesce((facts->>'reserved')::boolean, false) as reserved
) as known
cross join lateral (
    select coalesce(bool_or(one->>'rejected' is null
                            and (one->>'restocked' is null or one->>'refunded' is null)), false) as open,
           coalesce(sum((one->'refunded'->>1)::bigint), 0) as back
    from jsonb_each(returns) as of_it (return_id, one)
) as come_back
where (state = 'CANCELLED') <> (cancelled <> '')
   or (state = 'CANCELLED' and reason is distinct from cancelled)
   or (state in ('COMPLETED', 'RETURNING', 'REFUNDED')) <> (delivered and completed and cancelled = '')
   or (state = 'RETURNING') <> (delivered and cancelled = '' and open)
   or (state = 'REFUNDED' and back < total)
   or (state = 'COMPLETED' and back > 0 and back = total)
   or (state = 'SHIPPED' and not shipped)
   or (state = 'CONFIRMED' and (not confirmed or shipped))
   or (state = 'RESERVED' and (not reserved or confirmed))
   or (state = 'PENDING' and (reserved or confirmed or shipped))
   or version < 1";

/// A fact is known unless it is absent, null or false.
const FACTS: &str = "
with pairs (fact, event) as (values
    ('reserved', 'InventoryReserved'), ('rejected', 'InventoryRejected'), ('released', 'InventoryReleased'),
    ('committed', 'InventoryCommitted'), ('paid', 'PaymentSucceeded'), ('declined', 'PaymentDeclined'),
    ('timed_out', 'PaymentTimedOut'), ('voided', 'PaymentVoided'),
    ('scheduled', 'ShipmentScheduled'), ('shipped', 'OrderShipped'), ('delivered', 'OrderDelivered'),
    ('shipment_failed', 'ShipmentFailed'), ('shipment_cancelled', 'ShipmentCancelled'),
    ('cancel_rejected', 'ShipmentCancelRejected'), ('confirmed', 'OrderConfirmed'),
    ('cancel_requested', 'OrderCancellationRequested'), ('cancelled', 'OrderCancelled'),
    ('completed', 'OrderCompleted')
), heard as (
    select order_id, array_agg(distinct event_type) as events from timeline group by order_id
)
select 'order ' || id || case when event = any(events) then ' has heard ' else ' has not heard ' end || event
       || ', but its fact is ' || fact || ' = ' || coalesce(facts->>fact, 'null')
from orders left join heard on order_id = id cross join pairs
where (coalesce(facts->>fact, 'false') <> 'false') <> (event = any(coalesce(events, '{}')))";

/// What is older than the archive and the inbox keep is not asked for; UUIDv7 ids begin with their time.
const TIMELINE: &str = "
with recent (first) as (
    select (lpad(to_hex((extract(epoch from now() - interval '7 days') * 1000)::bigint), 12, '0')
            || '00000000000000000000')::uuid
), told as (
    select event_id, event_type, subject from outbox_published
    union all select event_id, event_type, subject from outbox
)
select event_type || ' of order ' || subject || ' was told, but is not in its timeline'
from told where not exists (
    select from timeline where order_id::text = told.subject and timeline.event_id = told.event_id)
union all
select event_type || ' is in the timeline of order ' || order_id || ', but was never told'
from timeline, recent where producer = 'order' and event_id > first
    and not exists (select from told where told.event_id = timeline.event_id)
union all
select event_type || ' is in the timeline of order ' || order_id || ', but not in the inbox'
from timeline, recent where producer <> 'order' and event_id > first
    and not exists (select from inbox where inbox.event_id = timeline.event_id)";

fn has_ended(books: &Books) -> Finding {
    Finding::of(&books.orders, |(id, Order { state, .. })| {
        (!TERMINAL.contains(&state.as_str())).then(|| format!("order {id} is still {state}"))
    })
}

fn one_end(books: &Books) -> Finding {
    let told = books.told_of_orders(Service::Order);
    Finding::of(books.recent_orders(), |(id, order)| {
        let events = told.get(id).map_or(&[][..], Vec::as_slice);
        let count = |name: &str| events.iter().filter(|event| event.name() == name).count();
        let told = (count("OrderCompleted"), count("OrderCancelled"));
        let expected = (
            usize::from(DELIVERED.contains(&order.state.as_str())),
            usize::from(order.state == "CANCELLED"),
        );
        (told != expected).then(|| {
            format!(
                "order {id} is {}, but OrderCompleted was told {} times and OrderCancelled {} times",
                order.state, told.0, told.1
            )
        })
    })
}

fn legal_steps(books: &Books) -> Finding {
    let known: HashSet<_> = books.recent_orders().map(|(id, _)| *id).collect();
    let told = books.told_of_orders(Service::Order);
    let untold = known.iter().filter(|id| !told.contains_key(id));
    let untold = untold.map(|id| format!("of order {id} nothing was ever told"));
    let mut finding = Finding::of(&told, |(id, events)| {
        let mut before = "";
        for event in events {
            let legal = STEPS
                .iter()
                .find(|(from, _)| *from == before)
                .map_or(&[][..], |(_, to)| *to);
            if !legal.contains(&event.name()) {
                let after = if before.is_empty() { "nothing" } else { before };
                return Some(format!("order {id}: {} was told after {after}", event.name()));
            }
            before = event.name();
        }
        (!known.contains(id)).then(|| format!("of order {id} was told, but there is no such order"))
    });
    finding.breaches.extend(untold);
    finding
}
