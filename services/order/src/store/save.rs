//! Writing a batch back: one statement a table, however many orders.

use std::collections::BTreeMap;

use events::{Address, Line};
use messaging::{Journal, Tx, all_saved};
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::{Answer, Facts, Offer, Order, Return};

pub(super) async fn save_orders(tx: &mut Tx, orders: &BTreeMap<Uuid, Order>) -> sqlx::Result<()> {
    let changed: Vec<&Order> = orders
        .values()
        .filter(|order| order.version != order.saved_version)
        .collect();
    let (new, known): (Vec<&Order>, Vec<&Order>) = changed.into_iter().partition(|order| order.saved_version == 0);
    insert_orders(tx, &new).await?;
    update_orders(tx, &known).await
}

async fn insert_orders(tx: &mut Tx, new: &[&Order]) -> sqlx::Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let text = |of: fn(&Order) -> String| new.iter().map(|order| of(order)).collect::<Vec<_>>();
    let state = |of: fn(&Order) -> Option<String>| new.iter().map(|order| of(order)).collect::<Vec<_>>();
    sqlx::query!(
        r#"
        insert into orders (id, customer_id, customer_email, lines, total, currency, ship_to, payment_method,
                            stock_check, state, facts, version, pay_by, due_at, waits_for, waits_since,
                            traceparent, tracestate)
        select id, customer_id, customer_email, lines, total, currency, ship_to, payment_method,
               stock_check, state, facts, version, pay_by, pay_by, 'SERVICES', pay_by, traceparent, tracestate
        from unnest($1::uuid[], $2::uuid[], $3::text[], $4::jsonb[], $5::bigint[], $6::text[], $7::jsonb[], $8::text[],
                    $9::text[], $10::text[], $11::jsonb[], $12::bigint[], $13::timestamptz[], $14::text[], $15::text[])
            as t (id, customer_id, customer_email, lines, total, currency, ship_to, payment_method,
                  stock_check, state, facts, version, pay_by, traceparent, tracestate)
        "#,
        &new.iter().map(|order| order.id).collect::<Vec<_>>(),
        &new.iter().map(|order| order.customer.id).collect::<Vec<_>>(),
        &text(|order| order.customer.email.clone()),
        &new.iter().map(|order| Json(order.lines.as_slice())).collect::<Vec<_>>() as &[Json<&[Line]>],
        &new.iter().map(|order| order.total).collect::<Vec<_>>(),
        &text(|order| order.currency.clone()),
        &new.iter().map(|order| Json(&order.ship_to)).collect::<Vec<_>>() as &[Json<&Address>],
        &text(|order| order.payment_method.clone()),
        &text(|order| order.stock_check.as_str().to_owned()),
        &text(|order| order.state().as_str().to_owned()),
        &new.iter().map(|order| Json(&order.facts)).collect::<Vec<_>>() as &[Json<&Facts>],
        &new.iter().map(|order| order.version).collect::<Vec<_>>(),
        &new.iter().map(|order| order.pay_by).collect::<Vec<_>>(),
        &state(|order| order.trace.traceparent()) as &[Option<String>],
        &state(|order| order.trace.tracestate().map(str::to_owned)) as &[Option<String>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// An order is swept only while it awaits payment; whoever leaves that state leaves the queue. It may stand still
/// until then for free, and afterwards counts how long it has been in its state; a return also since when it is owed a
/// refund.
async fn update_orders(tx: &mut Tx, known: &[&Order]) -> sqlx::Result<()> {
    if known.is_empty() {
        return Ok(());
    }
    let saved = sqlx::query!(
        r#"
        update orders set state = t.state, reason = t.reason, facts = t.facts, returns = t.returns,
                          version = t.version,
                          due_at = case when t.awaits_payment then due_at end, waits_for = t.waits_for,
                          waits_since = case when t.waits_for is null then null
                                             when t.awaits_payment then pay_by
                                             when orders.state = t.state
                                                  and (t.state <> 'RETURNING' or orders.waits_for = t.waits_for)
                                                 then waits_since
                                             else now() end,
                          updated_at = now()
        from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::bigint[], $6::bigint[], $7::bool[],
                    $8::text[], $9::jsonb[])
            as t (id, state, reason, facts, version, saved_version, awaits_payment, waits_for, returns)
        where orders.id = t.id and orders.version = t.saved_version
        "#,
        &known.iter().map(|order| order.id).collect::<Vec<_>>(),
        &known
            .iter()
            .map(|order| order.state().as_str().to_owned())
            .collect::<Vec<_>>(),
        &known
            .iter()
            .map(|order| order.reason().map(reason_word))
            .collect::<Vec<_>>() as &[Option<String>],
        &known.iter().map(|order| Json(&order.facts)).collect::<Vec<_>>() as &[Json<&Facts>],
        &known.iter().map(|order| order.version).collect::<Vec<_>>(),
        &known.iter().map(|order| order.saved_version).collect::<Vec<_>>(),
        &known
            .iter()
            .map(|order| order.state().awaits_payment())
            .collect::<Vec<_>>(),
        &known
            .iter()
            .map(|order| order.waits().map(|waits| waits.as_str().to_owned()))
            .collect::<Vec<_>>() as &[Option<String>],
        &known.iter().map(|order| Json(&order.returns)).collect::<Vec<_>>() as &[Json<&BTreeMap<Uuid, Return>>],
    )
    .execute(&mut **tx)
    .await?;
    all_saved(saved.rows_affected(), known.len())
}

pub(super) fn reason_word(reason: events::CancelReason) -> String {
    serde_json::to_value(reason)
        .ok()
        .and_then(|word| word.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Everything that the orders of the batch heard and told.
pub(super) async fn save_timeline(tx: &mut Tx, orders: &BTreeMap<Uuid, Order>, journal: &Journal) -> sqlx::Result<()> {
    let entries = journal.heard.iter().chain(&journal.told);
    let entries = entries.filter_map(|event| orders.get(&event.order_id()?).map(|order| (order, event)));
    let entries: Vec<_> = entries.collect();
    if entries.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into timeline (order_id, event_id, event_type, producer, sequence, causation_id, occurred_at, trace_id,
                              version)
        select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::uuid[],
                             $7::timestamptz[], $8::text[], $9::bigint[])
        on conflict do nothing
        "#,
        &entries.iter().map(|(order, _)| order.id).collect::<Vec<_>>(),
        &entries.iter().map(|(_, event)| event.event_id).collect::<Vec<_>>(),
        &entries
            .iter()
            .map(|(_, event)| event.name().to_owned())
            .collect::<Vec<_>>(),
        &entries
            .iter()
            .map(|(_, event)| event.producer().to_owned())
            .collect::<Vec<_>>(),
        &entries.iter().map(|(_, event)| event.sequence).collect::<Vec<_>>(),
        &entries.iter().map(|(_, event)| event.causation_id).collect::<Vec<_>>() as &[Option<Uuid>],
        &entries.iter().map(|(_, event)| event.occurred_at).collect::<Vec<_>>(),
        &entries
            .iter()
            .map(|(_, event)| event.trace.trace_id())
            .collect::<Vec<_>>(),
        &entries.iter().map(|(order, _)| order.version).collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Only ever inserted: a second writer of the same key loses the race and decides again.
pub(super) async fn save_answers(tx: &mut Tx, answers: &BTreeMap<String, Answer>) -> sqlx::Result<()> {
    let fresh: Vec<(&String, &Answer)> = answers.iter().filter(|(_, answer)| answer.fresh).collect();
    if fresh.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into idempotency_keys (scope, fingerprint, order_id, status, body)
        select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::int[], $5::text[])
        "#,
        &fresh.iter().map(|(scope, _)| (*scope).clone()).collect::<Vec<_>>(),
        &fresh.iter().map(|(_, answer)| answer.fingerprint).collect::<Vec<_>>(),
        &fresh.iter().map(|(_, answer)| answer.order_id).collect::<Vec<_>>(),
        &fresh
            .iter()
            .map(|(_, answer)| i32::from(answer.status))
            .collect::<Vec<_>>(),
        &fresh.iter().map(|(_, answer)| answer.body.clone()).collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn save_catalogue(tx: &mut Tx, offers: &BTreeMap<String, Offer>) -> sqlx::Result<()> {
    if offers.is_empty() {
        return Ok(());
    }
    let offers: Vec<&Offer> = offers.values().collect();
    sqlx::query!(
        r#"
        insert into catalogue as known (sku, name, price, currency, available, revision)
        select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[])
        on conflict (sku) do update
        set name = excluded.name, price = excluded.price, currency = excluded.currency,
            available = excluded.available, revision = excluded.revision
        where known.revision < excluded.revision
        "#,
        &offers.iter().map(|offer| offer.sku.clone()).collect::<Vec<_>>(),
        &offers.iter().map(|offer| offer.name.clone()).collect::<Vec<_>>(),
        &offers.iter().map(|offer| offer.price).collect::<Vec<_>>(),
        &offers.iter().map(|offer| offer.currency.clone()).collect::<Vec<_>>(),
        &offers.iter().map(|offer| offer.available).collect::<Vec<_>>(),
        &offers.iter().map(|offer| offer.revision).collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
