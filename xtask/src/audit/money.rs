//! Money: the ledger, the payments and the gateway's own book tell the same story.

use std::collections::{BTreeMap, BTreeSet};

use super::books::{Books, Charge, Payment, doubled};
use super::{Check, Finding, Invariant, Kind, Source};
use crate::shop::Service;

const PAYMENT: &[Source] = &[Source::Database(Service::Payment)];
const BOTH_BOOKS: &[Source] = &[Source::Database(Service::Payment), Source::Gateway];

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "the-ledger-balances",
        promise: "every transaction debits as much as it credits, and so does the ledger as a whole",
        kind: Kind::Always,
        reads: PAYMENT,
        check: Check::Sql {
            looked_at: "select count(*) from ledger",
            breaches: "select 'transaction ' || transaction_id || ' debits ' || sum(debit) || ' and credits ' || sum(credit)
                       from ledger group by transaction_id having sum(debit) <> sum(credit)
                       union all
                       select 'all in all ' || sum(debit) || ' are debited and ' || sum(credit) || ' credited'
                       from ledger having sum(debit) <> sum(credit)",
        },
    },
    Invariant {
        name: "one-capture-per-order",
        promise: "the money for an order is taken once",
        kind: Kind::Always,
        reads: PAYMENT,
        check: Check::Sql {
            looked_at: "select count(*) from payment_events where type = 'Captured'",
            breaches: "select 'the money for order ' || order_id || ' was taken ' || count(*) || ' times'
                       from payment_events where type = 'Captured' group by order_id having count(*) > 1",
        },
    },
    Invariant {
        name: "refunds-do-not-exceed-captures",
        promise: "no more goes back than was taken",
        kind: Kind::Always,
        reads: PAYMENT,
        check: Check::Sql {
            looked_at: "select count(*) from payments where refunded > 0",
            breaches: "with moved as (
                           select order_id, coalesce(sum((data->>'amount')::bigint) filter (where type = 'Captured'), 0) as taken,
                                  coalesce(sum((data->>'amount')::bigint)
                                           filter (where type in ('Refunded', 'ReturnRefunded')), 0) as returned
                           from payment_events group by order_id
                       )
                       select 'of ' || taken || ' taken for order ' || order_id || ', ' || returned || ' went back'
                       from moved where returned > taken
                       union all
                       select 'payment of order ' || order_id || ' has captured ' || captured || ' and refunded ' || refunded
                       from payments where refunded > captured or captured > amount",
        },
    },
    Invariant {
        name: "payment-histories-are-gapless",
        promise: "the events of a payment are numbered 1, 2, 3 … up to its version",
        kind: Kind::Always,
        reads: PAYMENT,
        check: Check::Sql {
            looked_at: "select count(*) from payment_events",
            breaches: "with history as (
                           select order_id, count(*) as events, count(distinct version) as distinct_events,
                                  min(version) as first, max(version) as last
                           from payment_events group by order_id
                       )
                       select 'payment of order ' || order_id || ' is at version ' || coalesce(version, 0) || ', but has '
                              || coalesce(events, 0) || ' events from ' || coalesce(first, 0) || ' to ' || coalesce(last, 0)
                       from payments full join history using (order_id)
                       where version is null or events is null or first <> 1 or last <> version
                             or events <> version or distinct_events <> events",
        },
    },
    Invariant {
        name: "payments-are-the-fold-of-their-events",
        promise: "state and amounts of a payment are what its events amount to",
        kind: Kind::Always,
        reads: PAYMENT,
        check: Check::Sql {
            looked_at: "select count(*) from payments",
            breaches: FOLD,
        },
    },
    Invariant {
        name: "the-ledger-says-what-payments-say",
        promise: "what was taken and given back of each payment is booked, and nothing else",
        kind: Kind::Always,
        reads: PAYMENT,
        check: Check::Sql {
            looked_at: "select count(distinct order_id) from ledger",
            breaches: "with booked as (
                           select order_id, sum(debit) as taken, sum(credit) as returned
                           from ledger where account = 'gateway_receivable' group by order_id
                       )
                       select 'of order ' || order_id || ' ' || coalesce(captured, 0) || ' were taken and '
                              || coalesce(refunded, 0) || ' went back, but ' || coalesce(taken, 0) || ' and '
                              || coalesce(returned, 0) || ' are booked'
                       from payments full join booked using (order_id)
                       where coalesce(captured, 0) <> coalesce(taken, 0) or coalesce(refunded, 0) <> coalesce(returned, 0)",
        },
    },
    Invariant {
        name: "captures-are-in-the-gateways-book",
        promise: "what we say was taken, the gateway has taken: same key, amount and currency",
        kind: Kind::Always,
        reads: BOTH_BOOKS,
        check: Check::Books(captures_are_charges),
    },
    Invariant {
        name: "the-gateway-charged-each-order-once",
        promise: "the gateway's book holds one charge an order and an idempotency key",
        kind: Kind::Always,
        reads: &[Source::Gateway],
        check: Check::Books(charged_once),
    },
    Invariant {
        name: "charges-and-refunds-of-the-gateway-are-known",
        promise: "what the gateway has taken and given back, we know of, to the penny",
        kind: Kind::AtRest,
        reads: BOTH_BOOKS,
        check: Check::Books(charges_are_known),
    },
    Invariant {
        name: "no-payment-is-left-unknown",
        promise: "no charge or refund is still to be made, tried or found out about",
        kind: Kind::AtRest,
        reads: PAYMENT,
        check: Check::Sql {
            looked_at: "select count(*) from payments",
            breaches: "select 'payment of order ' || order_id || ' is ' || state || coalesce(' (' || trouble || ')', '')
                       from payments
                       where state in ('PENDING', 'REFUNDING') or unresolved or undo = 'WANTED' or due_at is not null
                       union all
                       select 'the refund of return ' || return_id || ' is ' || state || coalesce(' (' || trouble || ')', '')
                       from return_refunds where state <> 'DONE'",
        },
    },
];

/// The fold in SQL, so that it is not the payment service's own code that says it is right.
const FOLD: &str = "
with summed as (
    select order_id,
           coalesce(sum((data->>'amount')::bigint) filter (where type = 'Requested'), 0) as amount,
           coalesce(sum((data->>'amount')::bigint) filter (where type = 'Captured'), 0) as captured,
           coalesce(sum((data->>'amount')::bigint) filter (where type in ('Refunded', 'ReturnRefunded')), 0) as refunded,
           (array_agg(case type when 'Requested' then 'PENDING' when 'Captured' then 'SUCCEEDED'
                                when 'Declined' then 'DECLINED' when 'TimedOut' then 'TIMED_OUT'
                                when 'Voided' then 'VOIDED' when 'RefundRequested' then 'REFUNDING'
                                when 'Refunded' then 'REFUNDED' end order by version desc)
               filter (where type not in ('UndoRequested', 'UndoAnswered', 'FoundUncharged') and type not like 'Return%'))[1]
               as last
    from payment_events group by order_id
), moved as (
    -- What returns have paid back in full is REFUNDED as well.
    select *, case when last = 'SUCCEEDED' and refunded > 0 and refunded = captured then 'REFUNDED' else last end as state
    from summed
)
select 'payment of order ' || order_id || ' is ' || payments.state || ' (' || payments.captured || ' taken, '
       || payments.refunded || ' back), but its events say ' || coalesce(moved.state, 'nothing') || ' ('
       || coalesce(moved.captured, 0) || ' taken, ' || coalesce(moved.refunded, 0) || ' back)'
from payments left join moved using (order_id)
where (payments.state, payments.amount, payments.captured, payments.refunded)
      is distinct from (moved.state, moved.amount, moved.captured, moved.refunded)";

fn captures_are_charges(books: &Books) -> Finding {
    let charges: BTreeMap<&str, &Charge> = books
        .charges
        .iter()
        .filter_map(|charge| Some((charge.idempotency_key.as_deref()?, charge)))
        .collect();
    let captured = books.payments.values().filter(|payment| payment.captured > 0);
    Finding::of(captured, |payment| {
        let Payment {
            order_id,
            payment_id,
            captured,
            refunded,
            ..
        } = payment;
        let Some(charge) = charges.get(payment_id.to_string().as_str()) else {
            return Some(format!(
                "order {order_id}: the gateway knows no charge under {payment_id}"
            ));
        };
        let same = charge.amount == *captured
            && charge.refunded >= *refunded
            && charge.currency.eq_ignore_ascii_case(&payment.currency)
            && charge.order_id.as_deref() == Some(order_id.to_string().as_str());
        (!same).then(|| {
            format!(
                "order {order_id}: we took {captured} {} and gave {refunded} back, but {} says {} {} and {}",
                payment.currency, charge.id, charge.amount, charge.currency, charge.refunded
            )
        })
    })
}

fn charged_once(books: &Books) -> Finding {
    let key = |charge: &'_ Charge| charge.idempotency_key.clone().unwrap_or_default();
    let keys: Vec<String> = books.charges.iter().map(key).collect();
    let keys: BTreeSet<&str> = doubled(keys.iter().map(String::as_str));
    let orders = doubled(books.charges.iter().filter_map(|charge| charge.order_id.as_deref()));
    let orders = orders
        .into_iter()
        .map(|order| format!("order {order} was charged more than once"));
    let keys = keys
        .into_iter()
        .map(|key| format!("more than one charge under the key {key:?}"));
    Finding {
        looked_at: books.charges.len(),
        breaches: orders.chain(keys).collect(),
    }
}

fn charges_are_known(books: &Books) -> Finding {
    Finding::of(&books.charges, |charge| {
        let Charge {
            id, amount, refunded, ..
        } = charge;
        let order = charge.order_id.as_deref().unwrap_or("?");
        let payment = order.parse().ok().and_then(|order| books.payments.get(&order));
        let Some(payment) = payment.filter(|payment| payment.captured > 0) else {
            return Some(format!(
                "{id} took {amount} for order {order}, of which we know nothing"
            ));
        };
        let same = (payment.captured, payment.refunded) == (*amount, *refunded)
            && charge.idempotency_key.as_deref() == Some(payment.payment_id.to_string().as_str());
        (!same).then(|| {
            format!(
                "{id} took {amount} for order {order} and gave {refunded} back, but we say {} and {}",
                payment.captured, payment.refunded
            )
        })
    })
}
