//! The only SQL of the order service: a batch's working set, and the queries of the API.

mod answers;
mod durations;
mod save;
mod states;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use events::{Address, Customer, Line};
use messaging::{Journal, Touched, Tx, WorkingSet};
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use telemetry::TraceContext;
use utoipa::ToSchema;
use uuid::Uuid;

pub use answers::{answer, forget_answers};
pub use states::{PastState, states_after, versions};

use crate::domain::{Answer, Facts, History, Offer, Order, Orders, Patience, Return, StockCheck};

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
                   returns as "returns: Json<BTreeMap<Uuid, Return>>", version, pay_by, traceparent, tracestate,
                   created_at, updated_at
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

    async fn save(mut self, tx: &mut Tx, journal: &Journal) -> sqlx::Result<()> {
        self.orders.values_mut().for_each(Order::note_state);
        save::save_orders(tx, &self.orders).await?;
        states::save_states(tx, &self.orders).await?;
        durations::measure_ends(tx, &self.orders, self.now);
        save::save_timeline(tx, &self.orders, journal).await?;
        save::save_answers(tx, &self.answers).await?;
        save::save_catalogue(tx, &self.offers).await
    }
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
    returns: Json<BTreeMap<Uuid, Return>>,
    version: i64,
    pay_by: DateTime<Utc>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl OrderRow {
    fn into_order(self) -> Order {
        let mut order = Order {
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
            returns: self.returns.0,
            version: self.version,
            saved_version: self.version,
            history: History::default(),
            trace: TraceContext::restore(self.traceparent.as_deref(), self.tracestate.as_deref()),
            created_at: self.created_at,
            updated_at: self.updated_at,
        };
        order.history.newest = Some(order.state());
        order
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
    /// Only those that have stood still for longer than this.
    pub stuck: Option<Patience>,
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
               returns as "returns: Json<BTreeMap<Uuid, Return>>", version, pay_by, traceparent, tracestate,
               created_at, updated_at
        from orders
        where ($1::uuid is null or id = $1) and ($2::text is null or state = $2)
          and ($3::uuid is null or customer_id = $3) and ($4::timestamptz is null or created_at > $4)
          and ($5::uuid is null or id < $5)
          and ($7::bigint is null or id in (
              select id from orders where waits_since is not null and needs_attention(waits_for, waits_since, $7, $8)
          ))
        order by id desc limit $6
        "#,
        id,
        filter.status,
        filter.customer_id,
        filter.created_after,
        filter.after,
        limit,
        filter.stuck.map(|patience| milliseconds(patience.services)),
        filter.stuck.map(|patience| milliseconds(patience.parcel)),
    );
    Ok(rows
        .fetch_all(pool)
        .await?
        .into_iter()
        .map(OrderRow::into_order)
        .collect())
}

/// Whether an order has stood still for longer than it may.
pub async fn is_stuck(pool: &PgPool, id: Uuid, patience: &Patience) -> sqlx::Result<bool> {
    let stuck = sqlx::query_scalar!(
        r#"select needs_attention(waits_for, waits_since, $2, $3) as "stuck!" from orders where id = $1"#,
        id,
        milliseconds(patience.services),
        milliseconds(patience.parcel),
    );
    Ok(stuck.fetch_optional(pool).await?.unwrap_or(false))
}

/// How many sagas are under way.
#[derive(Debug, PartialEq, Eq)]
pub struct Open {
    /// The state of their orders.
    pub state: String,
    /// How many there are.
    pub all: i64,
    /// How many of them have stood still for longer than they may.
    pub stuck: i64,
}

/// The sagas that are under way, by state; reads their index alone, however many orders there are.
pub async fn open_sagas(pool: &PgPool, patience: &Patience) -> sqlx::Result<Vec<Open>> {
    sqlx::query_as!(
        Open,
        r#"
        select state, count(*) as "all!", count(*) filter (where needs_attention(waits_for, waits_since, $1, $2)) as "stuck!"
        from orders where waits_since is not null group by state order by state
        "#,
        milliseconds(patience.services),
        milliseconds(patience.parcel),
    )
    .fetch_all(pool)
    .await
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
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
#[derive(Debug, Clone, Serialize, ToSchema)]
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
pub async fn take_overdue(session: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<(Uuid, TraceContext)>> {
    let rows = sqlx::query!(
        r#"
        update orders set due_at = now() + interval '30 seconds'
        where id = any (array(
            select id from orders where due_at <= now() order by due_at for update skip locked limit $1
        ))
        returning id, traceparent, tracestate
        "#,
        limit,
    )
    .fetch_all(session)
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
pub async fn next_overdue(session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
    let milliseconds = sqlx::query_scalar!(
        r#"
        select (extract(epoch from due_at - clock_timestamp()) * 1000)::bigint as "ms!"
        from orders where due_at is not null order by due_at limit 1
        "#
    )
    .fetch_optional(session)
    .await?;
    Ok(milliseconds.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs())))
}
