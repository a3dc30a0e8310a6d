//! The only SQL of the order service: a batch's working set, and the queries of the API.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use events::{Address, Customer, Line};
use messaging::{Journal, Touched, Tx, WorkingSet, all_saved};
use serde::Serialize;
use sqlx::PgPool;
use sqlx::types::Json;
use telemetry::TraceContext;
use uuid::Uuid;

use crate::domain::{Answer, Facts, Offer, Order, Orders, StockCheck};

impl WorkingSet for Orders {
    /// Locks the orders in order of their ids; idempotency keys are only ever added.
    async fn load(tx: &mut Tx, touched: &Touched) -> sqlx::Result<Self> {
        let now = sqlx::query_scalar!(r#"select now() as "now!""#)
            .fetch_one(&mut **tx)
            .await?;
        let rows = sqlx::query_as!(
            OrderRow,
            r#"
            select id, customer_id, customer_email, lines as "lines: Json<Vec<Line>>", total, currency,
                   ship_to as "ship_to: Json<Address>", payment_method, stock_check, facts as "facts: Json<Facts>",
                   version, pay_by, traceparent, tracestate, created_at, updated_at
            from orders where id = any($1) order by id for update
            "#,
            &touched.order_ids(),
        );
        let orders = rows
            .fetch_all(&mut **tx)
            .await?
            .into_iter()
            .map(|row| (row.id, row.into_order()))
            .collect();
        let mut answers = BTreeMap::new();
        if !touched.keys.is_empty() {
            for row in sqlx::query!(
                "select scope, fingerprint, order_id, status, body from idempotency_keys where scope = any($1)",
                &touched.key_list(),
            )
            .fetch_all(&mut **tx)
            .await?
            {
                let (fingerprint, order_id, status) = (row.fingerprint, row.order_id, row.status as u16);
                answers.insert(
                    row.scope,
                    Answer {
                        fingerprint,
                        order_id,
                        status,
                        body: row.body,
                        fresh: false,
                    },
                );
            }
        }
        Ok(Self {
            now,
            orders,
            answers,
            offers: BTreeMap::new(),
        })
    }

    async fn save(self, tx: &mut Tx, journal: &Journal) -> sqlx::Result<()> {
        save_orders(tx, &self.orders).await?;
        save_timeline(tx, &self.orders, journal).await?;
        save_answers(tx, &self.answers).await?;
        save_catalogue(tx, &self.offers).await
    }
}

async fn save_orders(tx: &mut Tx, orders: &BTreeMap<Uuid, Order>) -> sqlx::Result<()> {
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
                            stock_check, state, facts, version, pay_by, due_at, traceparent, tracestate)
        select id, customer_id, customer_email, lines, total, currency, ship_to, payment_method,
               stock_check, state, facts, version, pay_by, pay_by, traceparent, tracestate
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

/// An order is swept only while it awaits payment; whoever leaves that state leaves the queue.
async fn update_orders(tx: &mut Tx, known: &[&Order]) -> sqlx::Result<()> {
    if known.is_empty() {
        return Ok(());
    }
    let saved = sqlx::query!(
        r#"
        update orders set state = t.state, reason = t.reason, facts = t.facts, version = t.version,
                          due_at = case when t.awaits_payment then due_at end, updated_at = now()
        from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::bigint[], $6::bigint[], $7::bool[])
            as t (id, state, reason, facts, version, saved_version, awaits_payment)
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
    )
    .execute(&mut **tx)
    .await?;
    all_saved(saved.rows_affected(), known.len())
}

fn reason_word(reason: events::CancelReason) -> String {
    serde_json::to_value(reason)
        .ok()
        .and_then(|word| word.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Everything that the orders of the batch heard and told.
async fn save_timeline(tx: &mut Tx, orders: &BTreeMap<Uuid, Order>, journal: &Journal) -> sqlx::Result<()> {
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
async fn save_answers(tx: &mut Tx, answers: &BTreeMap<String, Answer>) -> sqlx::Result<()> {
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

async fn save_catalogue(tx: &mut Tx, offers: &BTreeMap<String, Offer>) -> sqlx::Result<()> {
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

struct OrderRow {
    id: Uuid,
    customer_id: Uuid,
    customer_email: String,
    lines: Json<Vec<Line>>,
    total: i64,
    currency: String,
    ship_to: Json<Address>,
    payment_method: String,
    stock_check: String,
    facts: Json<Facts>,
    version: i64,
    pay_by: DateTime<Utc>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl OrderRow {
    fn into_order(self) -> Order {
        Order {
            id: self.id,
            customer: Customer {
                id: self.customer_id,
                email: self.customer_email,
            },
            lines: self.lines.0,
            total: self.total,
            currency: self.currency,
            ship_to: self.ship_to.0,
            payment_method: self.payment_method,
            stock_check: if self.stock_check == "passed" {
                StockCheck::Passed
            } else {
                StockCheck::Skipped
            },
            pay_by: self.pay_by,
            facts: self.facts.0,
            version: self.version,
            saved_version: self.version,
            trace: TraceContext::restore(self.traceparent.as_deref(), self.tracestate.as_deref()),
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// One order.
pub async fn order(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Order>> {
    let filter = Filter {
        after: None,
        ..Filter::default()
    };
    Ok(select(pool, &filter, Some(id), 1).await?.pop())
}

/// Which orders a list is about.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those in this state.
    pub status: Option<String>,
    /// Only this customer's.
    pub customer_id: Option<Uuid>,
    /// Only those placed later.
    pub created_after: Option<DateTime<Utc>>,
    /// Only those older than this one.
    pub after: Option<Uuid>,
}

/// Orders, newest first.
pub async fn orders(pool: &PgPool, filter: &Filter, limit: i64) -> sqlx::Result<Vec<Order>> {
    select(pool, filter, None, limit).await
}

async fn select(pool: &PgPool, filter: &Filter, id: Option<Uuid>, limit: i64) -> sqlx::Result<Vec<Order>> {
    let rows = sqlx::query_as!(
        OrderRow,
        r#"
        select id, customer_id, customer_email, lines as "lines: Json<Vec<Line>>", total, currency,
               ship_to as "ship_to: Json<Address>", payment_method, stock_check, facts as "facts: Json<Facts>",
               version, pay_by, traceparent, tracestate, created_at, updated_at
        from orders
        where ($1::uuid is null or id = $1) and ($2::text is null or state = $2)
          and ($3::uuid is null or customer_id = $3) and ($4::timestamptz is null or created_at > $4)
          and ($5::uuid is null or id < $5)
        order by id desc limit $6
        "#,
        id,
        filter.status,
        filter.customer_id,
        filter.created_after,
        filter.after,
        limit,
    );
    Ok(rows
        .fetch_all(pool)
        .await?
        .into_iter()
        .map(OrderRow::into_order)
        .collect())
}

/// What was answered under a key, if it was used before.
pub async fn answer(pool: &PgPool, scope: &str) -> sqlx::Result<Option<Answer>> {
    let row = sqlx::query!(
        "select fingerprint, order_id, status, body from idempotency_keys where scope = $1",
        scope
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Answer {
        fingerprint: row.fingerprint,
        order_id: row.order_id,
        status: row.status as u16,
        body: row.body,
        fresh: false,
    }))
}

/// What the local copy of the catalogue knows of these articles, by sku.
pub async fn catalogue(pool: &PgPool, skus: &[String]) -> sqlx::Result<BTreeMap<String, Offer>> {
    let rows = sqlx::query_as!(
        Offer,
        "select sku, name, price, currency, available, revision from catalogue where sku = any($1)",
        skus,
    );
    Ok(rows
        .fetch_all(pool)
        .await?
        .into_iter()
        .map(|offer| (offer.sku.clone(), offer))
        .collect())
}

/// One event of an order's history.
#[derive(Debug, Clone, Serialize)]
pub struct TimelineEntry {
    /// The event.
    pub event_id: Uuid,
    /// Its name, `OrderPlaced`.
    pub r#type: String,
    /// The service that told it.
    pub producer: String,
    /// When, by the producer's database clock.
    pub occurred_at: DateTime<Utc>,
    /// Its place among the producer's events of this order.
    pub sequence: i64,
    /// The event that it follows from.
    pub causation_id: Option<Uuid>,
    /// The trace that it belongs to.
    pub trace_id: String,
}

/// Everything an order heard and told, oldest first.
pub async fn timeline(pool: &PgPool, order_id: Uuid) -> sqlx::Result<Vec<TimelineEntry>> {
    sqlx::query_as!(
        TimelineEntry,
        r#"
        select event_id, event_type as "type", producer, occurred_at, sequence, causation_id, trace_id
        from timeline where order_id = $1 order by occurred_at, event_id
        "#,
        order_id,
    )
    .fetch_all(pool)
    .await
}

/// Takes overdue orders for half a minute; another replica skips them meanwhile.
pub async fn take_overdue(tx: &mut Tx, limit: i64) -> sqlx::Result<Vec<(Uuid, TraceContext)>> {
    let rows = sqlx::query!(
        r#"
        update orders set due_at = now() + interval '30 seconds'
        where id in (
            select id from orders where due_at <= now() order by due_at for update skip locked limit $1
        )
        returning id, traceparent, tracestate
        "#,
        limit,
    )
    .fetch_all(&mut **tx)
    .await?;
    let taken = rows.into_iter().map(|row| {
        (
            row.id,
            TraceContext::restore(row.traceparent.as_deref(), row.tracestate.as_deref()),
        )
    });
    Ok(taken.collect())
}

/// How long until the next order is overdue.
pub async fn next_overdue(pool: &PgPool) -> sqlx::Result<Option<Duration>> {
    let milliseconds = sqlx::query_scalar!(
        r#"
        select (extract(epoch from due_at - clock_timestamp()) * 1000)::bigint as "ms!"
        from orders where due_at is not null order by due_at limit 1
        "#
    )
    .fetch_optional(pool)
    .await?;
    Ok(milliseconds.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs())))
}
