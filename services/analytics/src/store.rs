//! The only SQL of the analytics service: a batch's working set, and the queries of the API.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use messaging::{Journal, Touched, Tx, WorkingSet, all_saved};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::{Facts, Product, Projections, Sales, Tally, Tracked};

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
        let Tally {
            counts,
            currencies,
            minutes,
            products,
        } = self.difference();
        save_orders(tx, &self).await?;
        save_products(tx, &self.products).await?;
        add_by_product(tx, &products).await?;
        add_by_minute(tx, &minutes).await?;
        add_by_currency(tx, &currencies).await?;
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

/// The sums turned on their side, as `unnest` wants them.
struct Columns {
    orders: Vec<i64>,
    units: Vec<i64>,
    revenue: Vec<i64>,
}

impl Columns {
    fn of<'a>(sales: impl Iterator<Item = &'a Sales> + Clone) -> Self {
        Self {
            orders: sales.clone().map(|sales| sales.orders).collect(),
            units: sales.clone().map(|sales| sales.units).collect(),
            revenue: sales.map(|sales| sales.revenue).collect(),
        }
    }
}

async fn add_by_product(tx: &mut Tx, more: &BTreeMap<(String, String), Sales>) -> sqlx::Result<()> {
    if more.is_empty() {
        return Ok(());
    }
    let sums = Columns::of(more.values());
    sqlx::query!(
        r#"
        insert into sales_by_product as known (sku, currency, orders, units, revenue)
        select * from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
        on conflict (sku, currency) do update
        set orders = known.orders + excluded.orders, units = known.units + excluded.units,
            revenue = known.revenue + excluded.revenue
        "#,
        &more.keys().map(|(sku, _)| sku.clone()).collect::<Vec<_>>(),
        &more.keys().map(|(_, currency)| currency.clone()).collect::<Vec<_>>(),
        &sums.orders,
        &sums.units,
        &sums.revenue,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn add_by_minute(tx: &mut Tx, more: &BTreeMap<(DateTime<Utc>, String), Sales>) -> sqlx::Result<()> {
    if more.is_empty() {
        return Ok(());
    }
    let sums = Columns::of(more.values());
    sqlx::query!(
        r#"
        insert into sales_by_minute as known (minute, currency, orders, units, revenue)
        select * from unnest($1::timestamptz[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
        on conflict (minute, currency) do update
        set orders = known.orders + excluded.orders, units = known.units + excluded.units,
            revenue = known.revenue + excluded.revenue
        "#,
        &more.keys().map(|(minute, _)| *minute).collect::<Vec<_>>(),
        &more.keys().map(|(_, currency)| currency.clone()).collect::<Vec<_>>(),
        &sums.orders,
        &sums.units,
        &sums.revenue,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn add_by_currency(tx: &mut Tx, more: &BTreeMap<String, Sales>) -> sqlx::Result<()> {
    if more.is_empty() {
        return Ok(());
    }
    let sums = Columns::of(more.values());
    sqlx::query!(
        r#"
        insert into sales_by_currency as known (currency, orders, units, revenue)
        select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
        on conflict (currency) do update
        set orders = known.orders + excluded.orders, units = known.units + excluded.units,
            revenue = known.revenue + excluded.revenue
        "#,
        &more.keys().cloned().collect::<Vec<_>>(),
        &sums.orders,
        &sums.units,
        &sums.revenue,
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
