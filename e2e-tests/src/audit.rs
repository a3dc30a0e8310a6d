//! What must be true of the whole shop once it is quiet.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{Service, TELLERS, World};

impl World {
    /// Every order is terminal, every outbox is empty, nobody has a dead letter, and nothing was lost or doubled.
    pub async fn audit(&self) {
        self.drained().await.unwrap_or_else(|error| panic!("{error:#}"));
        self.check()
            .await
            .unwrap_or_else(|error| panic!("the audit failed: {error:#}"));
    }

    /// Waits until every order is terminal, every outbox empty and every mail sent.
    pub async fn drained(&self) -> anyhow::Result<()> {
        let order = self.pool(Service::Order).await?;
        self.until("every order is terminal", || async {
            let open = sqlx::query_scalar("select count(*) from orders where state not in ('COMPLETED', 'CANCELLED')");
            none(&order, open, "orders are not terminal").await
        })
        .await?;
        for service in TELLERS {
            let pool = self.pool(service).await?;
            self.until(&format!("the outbox of {service} is empty"), || async {
                none(&pool, sqlx::query_scalar("select count(*) from outbox"), "events wait").await
            })
            .await?;
        }
        let email = self.pool(Service::Email).await?;
        self.until("every mail is sent", || async {
            let open = sqlx::query_scalar("select count(*) from notifications where state in ('WAITING', 'PENDING')");
            none(&email, open, "mails wait").await
        })
        .await?;
        self.analytics_caught_up(&order).await
    }

    async fn analytics_caught_up(&self, order: &PgPool) -> anyhow::Result<()> {
        self.until("analytics has counted everything", || async {
            let completed: i64 = sqlx::query_scalar("select count(*) from orders where state = 'COMPLETED'")
                .fetch_one(order)
                .await?;
            let cancelled: i64 = sqlx::query_scalar("select count(*) from orders where state = 'CANCELLED'")
                .fetch_one(order)
                .await?;
            let summary = self.get(Service::Analytics, "/v1/summary").await?;
            ensure!(
                summary["orders_completed"] == completed,
                "{summary} but {completed} completed"
            );
            ensure!(
                summary["orders_cancelled"] == cancelled,
                "{summary} but {cancelled} cancelled"
            );
            Ok(Some(()))
        })
        .await
    }

    async fn check(&self) -> anyhow::Result<()> {
        let (order, payment, inventory) = (
            self.pool(Service::Order).await?,
            self.pool(Service::Payment).await?,
            self.pool(Service::Inventory).await?,
        );
        let (warehouse, email) = (self.pool(Service::Warehouse).await?, self.pool(Service::Email).await?);
        for (service, pool) in [
            (Service::Order, &order),
            (Service::Payment, &payment),
            (Service::Inventory, &inventory),
            (Service::Warehouse, &warehouse),
            (Service::Email, &email),
        ] {
            empty(
                pool,
                "select event_type || ': ' || reason from dead_letters where state in ('dead', 'parked')",
            )
            .await
            .with_context(|| format!("dead letters of {service}"))?;
            let gaps = "select subject from (select e->>'subject' as subject, (e->>'sequence')::bigint as sequence
                        from outbox_archive, json_array_elements(events) e) t
                        group by subject having count(distinct sequence) <> max(sequence)";
            empty(pool, gaps)
                .await
                .with_context(|| format!("gaps in the sequences of {service}"))?;
        }
        stock(&inventory).await?;
        empty(
            &payment,
            "select transaction_id::text from ledger group by transaction_id having sum(debit) <> sum(credit)",
        )
        .await?;
        empty(
            &email,
            "select order_id::text from notifications group by order_id, template having count(*) > 1",
        )
        .await?;
        self.gateway_agrees(&payment).await?;
        self.orders_agree(&order, &payment, &inventory, &warehouse, &email)
            .await
    }

    /// The gateway's own book says the same as our ledger, charge by charge.
    async fn gateway_agrees(&self, payment: &PgPool) -> anyhow::Result<()> {
        let book: Value = self
            .http
            .get(format!("{}/v1/charges", self.shop.gateway_url()))
            .send()
            .await?
            .json()
            .await?;
        let mut charged: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for charge in book["data"].as_array().context("no book")? {
            let order = charge["order_id"].as_str().unwrap_or_default().to_owned();
            let amounts = (
                charge["amount"].as_i64().unwrap_or(0),
                charge["refunded"].as_i64().unwrap_or(0),
            );
            ensure!(
                charged.insert(order.clone(), amounts).is_none(),
                "order {order} was charged twice"
            );
        }
        let ours: Vec<(Uuid, i64, i64)> =
            sqlx::query_as("select order_id, captured, refunded from payments where captured > 0")
                .fetch_all(payment)
                .await?;
        let ours: BTreeMap<String, (i64, i64)> = ours
            .into_iter()
            .map(|(id, captured, refunded)| (id.to_string(), (captured, refunded)))
            .collect();
        ensure!(
            charged == ours,
            "the gateway's book and the payments differ:\n{charged:?}\n{ours:?}"
        );
        Ok(())
    }

    /// Completed means paid, sold, shipped and told; cancelled means that nothing is left of it.
    async fn orders_agree(
        &self,
        order: &PgPool,
        payment: &PgPool,
        inventory: &PgPool,
        warehouse: &PgPool,
        email: &PgPool,
    ) -> anyhow::Result<()> {
        let paid: Vec<(Uuid, i64)> = sqlx::query_as("select order_id, captured - refunded from payments")
            .fetch_all(payment)
            .await?;
        let paid: BTreeMap<Uuid, i64> = paid.into_iter().collect();
        let held: BTreeMap<Uuid, String> = pairs(inventory, "select order_id, state from reservations").await?;
        let shipped: BTreeMap<Uuid, String> = pairs(warehouse, "select order_id, state from shipments").await?;
        let mails: BTreeMap<Uuid, String> = pairs(
            email,
            "select order_id, string_agg(template, ',' order by template) from notifications where state = 'SENT' group by order_id",
        )
        .await?;
        let orders: Vec<(Uuid, String, i64)> = sqlx::query_as("select id, state, total from orders")
            .fetch_all(order)
            .await?;
        for (id, state, total) in orders {
            let of = |map: &BTreeMap<Uuid, String>| map.get(&id).cloned().unwrap_or_default();
            let seen = (paid.get(&id).copied().unwrap_or(0), of(&held), of(&shipped), of(&mails));
            let sound = match state.as_str() {
                "COMPLETED" => {
                    seen == (
                        total,
                        "COMMITTED".into(),
                        "DELIVERED".into(),
                        "order_confirmed,order_shipped".into(),
                    )
                }
                _ => {
                    let gone = seen.0 == 0 && ["", "RELEASED", "REJECTED"].contains(&seen.1.as_str());
                    let unsent = ["", "CANCELLED", "FAILED"].contains(&seen.2.as_str());
                    gone && unsent && seen.3.matches("order_cancelled").count() == 1 && !seen.3.contains("shipped")
                }
            };
            ensure!(
                sound,
                "order {id} is {state} with total {total}, but (paid, stock, shipment, mails) = {seen:?}"
            );
        }
        Ok(())
    }
}

async fn stock(inventory: &PgPool) -> anyhow::Result<()> {
    let wrong = "
        select p.sku from products p
        where p.on_hand < 0 or p.reserved < 0 or p.reserved > p.on_hand
           or p.on_hand <> coalesce((select sum(delta) from stock_movements m where m.sku = p.sku), 0)
           or p.reserved <> coalesce((select sum((line->>'quantity')::bigint)
                                      from reservations r, jsonb_array_elements(r.lines) line
                                      where r.state = 'HELD' and line->>'sku' = p.sku), 0)";
    empty(inventory, wrong).await.context("stock does not add up")
}

async fn none<'q>(
    pool: &PgPool,
    count: sqlx::query::QueryScalar<'q, sqlx::Postgres, i64, sqlx::postgres::PgArguments>,
    what: &str,
) -> anyhow::Result<Option<()>> {
    let count = count.fetch_one(pool).await?;
    ensure!(count == 0, "{count} {what}");
    Ok(Some(()))
}

async fn empty(pool: &PgPool, query: &'static str) -> anyhow::Result<()> {
    let rows: Vec<String> = sqlx::query_scalar(query).fetch_all(pool).await?;
    ensure!(rows.is_empty(), "{rows:?}");
    Ok(())
}

async fn pairs(pool: &PgPool, query: &'static str) -> anyhow::Result<BTreeMap<Uuid, String>> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as(query).fetch_all(pool).await?;
    Ok(rows.into_iter().collect())
}
