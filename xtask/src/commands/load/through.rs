//! Waiting until every order is at its end, as the order service's database has it.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

const LOOK: Duration = Duration::from_millis(250);
/// How often progress is shown.
const TELL: Duration = Duration::from_secs(2);
/// How long nothing may end before the rest is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the orders of a run ended.
pub(super) struct Through {
    accepted: usize,
    pub(super) unfinished: i64,
    /// Seconds from the first order to the last end of one.
    took: f64,
    /// How many orders are in each state.
    states: Vec<(String, i64)>,
}

/// Waits until all orders of these customers are at their end, or none has come to it for a minute.
pub(super) async fn wait(database: &str, customers: &[Uuid], accepted: usize) -> Result<Through> {
    let pool = PgPoolOptions::new().max_connections(1).connect(database).await?;
    let mut unfinished = i64::MAX;
    let (mut moved, mut told) = (Instant::now(), Instant::now());
    while unfinished > 0 && moved.elapsed() < PATIENCE {
        let now = count_unfinished(&pool, customers).await?;
        if now != unfinished {
            (unfinished, moved) = (now, Instant::now());
        }
        if told.elapsed() > TELL {
            println!("  {unfinished} to go");
            told = Instant::now();
        }
        tokio::time::sleep(LOOK).await;
    }
    let states = sqlx::query_as(
        "select state, count(*) from orders where customer_id = any($1) group by state order by count(*) desc",
    );
    let took = sqlx::query_scalar(
        "select coalesce(extract(epoch from max(occurred_at) - (select min(created_at) from orders
                                                                where customer_id = any($1))), 0)::float8
         from timeline where event_type in ('OrderCompleted', 'OrderCancelled')
         and order_id in (select id from orders where customer_id = any($1))",
    );
    Ok(Through {
        accepted,
        unfinished,
        took: took.bind(customers).fetch_one(&pool).await?,
        states: states.bind(customers).fetch_all(&pool).await?,
    })
}

async fn count_unfinished(pool: &PgPool, customers: &[Uuid]) -> Result<i64> {
    let count = sqlx::query_scalar(
        "select count(*) from orders
         where state in ('PENDING', 'RESERVED', 'CONFIRMED', 'SHIPPED', 'CANCELLING', 'RETURNING')
         and customer_id = any($1)",
    );
    Ok(count.bind(customers).fetch_one(pool).await?)
}

impl Through {
    pub(super) fn text(&self) -> String {
        let known: i64 = self.states.iter().map(|(_, count)| count).sum();
        let rate = (known - self.unfinished) as f64 / self.took.max(f64::EPSILON);
        let states: Vec<_> = self
            .states
            .iter()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        let mut text = format!(
            "through    {:.2} s: {rate:.0} orders/s ({})",
            self.took,
            states.join(", ")
        );
        if known != self.accepted as i64 {
            text += &format!(
                "\nLOST       {} orders were accepted, but {known} are known",
                self.accepted
            );
        }
        if self.unfinished > 0 {
            text += &format!(
                "\nSTUCK      {} orders have not moved for {PATIENCE:?}",
                self.unfinished
            );
        }
        text
    }
}
