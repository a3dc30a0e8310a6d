//! The only SQL of the analytics service: a batch's working set, and the queries of the API.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use messaging::replay::{Projection, Table};
use messaging::{Journal, Touched, Tx, WorkingSet, all_saved};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::{Dimension, Facts, Product, Projections, Sales, Tally, Tracked};

/// What is rebuilt by a replay. How far the service has come is not: it tells when events were handled.
pub const PROJECTION: Projection<Projections> = Projection {
    tables: &[
        Table {
            name: "orders",
            ignored: &["version"],
            sums: &[],
            by_order: true,
        },
        Table {
            name: "products",
            ignored: &[],
            sums: &[],
            by_order: false,
        },
        Table {
            name: "counters",
            ignored: &[],
            sums: &["count"],
            by_order: false,
        },
        Table {
            name: "sales",
            ignored: &[],
            sums: &["orders", "units", "revenue"],
            by_order: false,
        },
    ],
    gauges: &["progress"],
    show: |projections, order_id| {
        let facts = &projections.orders.get(&order_id)?.now;
        serde_json::to_value(facts).ok()
    },
    take_over: |live, rebuilt, order_id| live.take_over(rebuilt, order_id),
};

/// A row of `orders`, written and read as JSON: one parameter instead of thirty.
#[derive(Debug, Serialize, Deserialize)]
struct OrderRow {
    order_id: Uuid,
    version: i64,
    #[serde(flatten)]
    facts: Facts,
}

impl WorkingSet for Projections {
    /// Locks the orders in order of their ids. Sums and products are not read: they are only added to.
    async fn load(tx: &mut Tx, touched: &Touched) -> sqlx::Result<Self> {
        let mut projections = Self::default();
        let rows = sqlx::query_scalar!(
            r#"
            select jsonb_strip_nulls(to_jsonb(orders)) as "row!: Json<OrderRow>"
            from orders where order_id = any($1) order by order_id for update
            "#,
            &touched.order_ids(),
        );
        for Json(row) in rows.fetch_all(&mut **tx).await? {
            let tracked = Tracked {
                before: row.facts.clone(),
                now: row.facts,
                version: row.version,
            };
            projections.orders.insert(row.order_id, tracked);
        }
        Ok(projections)
    }

    /// The rows that everybody adds to come last, so that they are locked for the shortest time.
    async fn save(self, tx: &mut Tx, journal: &Journal) -> sqlx::Result<()> {
        let Tally { counts, sales } = self.difference();
        save_orders(tx, &self).await?;
        save_products(tx, &self.products).await?;
        add_sales(tx, &sales).await?;
        add_counts(tx, &counts).await?;
        let newest = journal.heard.iter().map(|envelope| envelope.occurred_at).max();
        save_progress(tx, newest).await
    }
}

async fn save_orders(tx: &mut Tx, projections: &Projections) -> sqlx::Result<()> {
    let row = |(order_id, order): (&Uuid, &Tracked)| OrderRow {
        order_id: *order_id,
        version: order.version + 1,
        facts: order.now.clone(),
    };
    let rows: Vec<OrderRow> = projections.changed().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let saved = sqlx::query!(
        r#"
        insert into orders as known select * from jsonb_populate_recordset(null::orders, $1)
        on conflict (order_id) do update
        set version = excluded.version, lines = excluded.lines, total = excluded.total, currency = excluded.currency,
            reason = excluded.reason, refunds = excluded.refunds, notified = excluded.notified,
            placed_at = excluded.placed_at, reserved_at = excluded.reserved_at, rejected_at = excluded.rejected_at,
            paid_at = excluded.paid_at, declined_at = excluded.declined_at, timed_out_at = excluded.timed_out_at,
            confirmed_at = excluded.confirmed_at, scheduled_at = excluded.scheduled_at,
            shipped_at = excluded.shipped_at, committed_at = excluded.committed_at,
            delivered_at = excluded.delivered_at, completed_at = excluded.completed_at,
            shipment_failed_at = excluded.shipment_failed_at, shipment_cancelled_at = excluded.shipment_cancelled_at,
            voided_at = excluded.voided_at, paid_back_at = excluded.paid_back_at, released_at = excluded.released_at,
            cancelled_at = excluded.cancelled_at, restocked_at = excluded.restocked_at,
            returned_at = excluded.returned_at
        where known.version = excluded.version - 1
        "#,
        Json(&rows) as _,
    )
    .execute(&mut **tx)
    .await?;
    all_saved(saved.rows_affected(), rows.len())
}

/// An older description than the one that is known changes nothing.
async fn save_products(tx: &mut Tx, described: &BTreeMap<String, Product>) -> sqlx::Result<()> {
    if described.is_empty() {
        return Ok(());
    }
    let text = |of: fn(&Product) -> &String| described.values().map(|one| of(one).clone()).collect::<Vec<_>>();
    let number = |of: fn(&Product) -> i64| described.values().map(of).collect::<Vec<_>>();
    sqlx::query!(
        r#"
        insert into products as known (sku, name, price, currency, available, sequence)
        select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[])
        on conflict (sku) do update
        set name = excluded.name, price = excluded.price, currency = excluded.currency,
            available = excluded.available, sequence = excluded.sequence
        where known.sequence < excluded.sequence
        "#,
        &described.keys().cloned().collect::<Vec<_>>(),
        &text(|product| &product.name),
        &number(|product| product.price),
        &text(|product| &product.currency),
        &number(|product| product.available),
        &number(|product| product.sequence),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn add_sales(tx: &mut Tx, more: &BTreeMap<(Dimension, String, String), Sales>) -> sqlx::Result<()> {
    if more.is_empty() {
        return Ok(());
    }
    let number = |of: fn(&Sales) -> i64| more.values().map(of).collect::<Vec<_>>();
    sqlx::query!(
        r#"
        insert into sales as known (dimension, key, currency, orders, units, revenue, refunded)
        select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
        on conflict (dimension, key, currency) do update
        set orders = known.orders + excluded.orders, units = known.units + excluded.units,
            revenue = known.revenue + excluded.revenue, refunded = known.refunded + excluded.refunded
        "#,
        &more
            .keys()
            .map(|(dimension, ..)| dimension.as_str().to_owned())
            .collect::<Vec<_>>(),
        &more.keys().map(|(_, key, _)| key.clone()).collect::<Vec<_>>(),
        &more.keys().map(|(.., currency)| currency.clone()).collect::<Vec<_>>(),
        &number(|sales| sales.orders),
        &number(|sales| sales.units),
        &number(|sales| sales.revenue),
        &number(|sales| sales.refunded),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn add_counts(tx: &mut Tx, more: &BTreeMap<(&'static str, String), i64>) -> sqlx::Result<()> {
    if more.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into counters as known (step, detail, count)
        select * from unnest($1::text[], $2::text[], $3::bigint[])
        on conflict (step, detail) do update set count = known.count + excluded.count
        "#,
        &more.keys().map(|(step, _)| (*step).to_owned()).collect::<Vec<_>>(),
        &more.keys().map(|(_, detail)| detail.clone()).collect::<Vec<_>>(),
        &more.values().copied().collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn save_progress(tx: &mut Tx, newest: Option<DateTime<Utc>>) -> sqlx::Result<()> {
    let Some(newest) = newest else {
        return Ok(());
    };
    sqlx::query!(
        r#"
        insert into progress as known (id, newest_at, handled_at) values (1, $1, clock_timestamp())
        on conflict (id) do update set newest_at = excluded.newest_at, handled_at = excluded.handled_at
        where known.newest_at < excluded.newest_at
        "#,
        newest,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How often each step was reached, by step and detail.
pub async fn counts(pool: &PgPool) -> sqlx::Result<Vec<(String, String, i64)>> {
    let rows = sqlx::query!("select step, detail, count from counters order by step, detail");
    let rows = rows.fetch_all(pool).await?.into_iter();
    Ok(rows.map(|row| (row.step, row.detail, row.count)).collect())
}

/// How the shop is doing.
#[derive(Debug)]
pub struct Summary {
    /// Orders accepted.
    pub placed: i64,
    /// Orders done.
    pub completed: i64,
    /// Orders undone.
    pub cancelled: i64,
    /// The currency with most revenue, if anything was sold.
    pub currency: Option<String>,
    /// Revenue in it, in minor units.
    pub revenue: Option<i64>,
    /// What was paid back of it, in minor units.
    pub refunded: Option<i64>,
    /// Orders of which something was sent back.
    pub returned: i64,
    /// When the newest event that was heard was told.
    pub newest_at: Option<DateTime<Utc>>,
    /// How long after that it was handled, in milliseconds.
    pub lag_ms: Option<i64>,
}

/// All of it in one statement, hence of one moment.
pub async fn summary(pool: &PgPool) -> sqlx::Result<Summary> {
    sqlx::query_as!(
        Summary,
        r#"
        with best as (
            select currency, revenue, refunded from sales where dimension = 'total' order by revenue desc, currency limit 1
        )
        select coalesce((select sum(count) from counters where step = 'placed'), 0)::bigint as "placed!",
               coalesce((select sum(count) from counters where step = 'completed'), 0)::bigint as "completed!",
               coalesce((select sum(count) from counters where step = 'cancelled'), 0)::bigint as "cancelled!",
               coalesce((select sum(count) from counters where step = 'returned'), 0)::bigint as "returned!",
               (select currency from best), (select revenue from best), (select refunded from best),
               (select newest_at from progress),
               (select extract(epoch from handled_at - newest_at) * 1000 from progress)::bigint as lag_ms
        "#
    )
    .fetch_one(pool)
    .await
}

/// Sales of one minute, or of one product.
#[derive(Debug)]
pub struct SalesRow {
    /// The minute, or the sku.
    pub key: String,
    /// Currency of the revenue.
    pub currency: String,
    /// How much was sold.
    pub orders: i64,
    /// How many pieces.
    pub units: i64,
    /// For how much, in minor units.
    pub revenue: i64,
}

/// Sales by minute, the newest first, after the cursor.
pub async fn sales_by_minute(pool: &PgPool, after: Option<(&str, &str)>, limit: i64) -> sqlx::Result<Vec<SalesRow>> {
    let (key, currency) = after.unwrap_or(("~", ""));
    sqlx::query_as!(
        SalesRow,
        r#"
        select key, currency, orders, units, revenue from sales
        where dimension = 'minute' and (key, currency) < ($1, $2)
        order by key desc, currency desc limit $3
        "#,
        key,
        currency,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Sales of a product, and what is known of it.
#[derive(Debug)]
pub struct ProductSalesRow {
    /// The article.
    pub sku: String,
    /// What it is called, if it was described.
    pub name: Option<String>,
    /// Pieces that can be ordered.
    pub available: Option<i64>,
    /// Currency of the revenue.
    pub currency: String,
    /// In how many orders it was sold.
    pub orders: i64,
    /// How many pieces.
    pub units: i64,
    /// For how much, in minor units.
    pub revenue: i64,
}

/// Sales by product, by sku, after the cursor.
pub async fn sales_by_product(
    pool: &PgPool,
    after: Option<(&str, &str)>,
    limit: i64,
) -> sqlx::Result<Vec<ProductSalesRow>> {
    let (key, currency) = after.unwrap_or(("", ""));
    sqlx::query_as!(
        ProductSalesRow,
        r#"
        select s.key as sku, p.name as "name?", p.available as "available?", s.currency, s.orders, s.units, s.revenue
        from sales s left join lateral (select name, available from products where sku = s.key limit 1) p on true
        where s.dimension = 'product' and (s.key, s.currency) > ($1, $2)
        order by s.key, s.currency limit $3
        "#,
        key,
        currency,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// How long orders take from placed to completed, in milliseconds.
#[derive(Debug)]
pub struct Latency {
    /// How many orders this is about.
    pub count: i64,
    /// Half of them took no longer.
    pub p50_ms: Option<i64>,
    /// 95 of 100 took no longer.
    pub p95_ms: Option<i64>,
    /// 99 of 100 took no longer.
    pub p99_ms: Option<i64>,
    /// The slowest.
    pub max_ms: Option<i64>,
}

/// Of the 10,000 orders completed last, so that the price does not grow with the shop.
pub async fn latency(pool: &PgPool) -> sqlx::Result<Latency> {
    sqlx::query_as!(
        Latency,
        r#"
        with latest as (
            select extract(epoch from completed_at - placed_at) * 1000 as ms from orders
            where completed_at is not null and placed_at is not null order by completed_at desc limit 10000
        )
        select count(*) as "count!", (percentile_cont(0.50) within group (order by ms))::bigint as p50_ms,
               (percentile_cont(0.95) within group (order by ms))::bigint as p95_ms,
               (percentile_cont(0.99) within group (order by ms))::bigint as p99_ms, max(ms)::bigint as max_ms
        from latest
        "#
    )
    .fetch_one(pool)
    .await
}
