//! What the order service does unasked: it gives up orders that were not paid in time, counts
//! those that are stuck, and forgets old idempotency keys.

use std::time::Duration;

use events::CancelReason;
use messaging::{Db, Decisions, Errand, Touched};
use opentelemetry::KeyValue;
use sqlx::PgConnection;
use telemetry::TraceContext;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api::STATES;
use crate::domain::{Orders, Patience};
use crate::store;

/// Asks for the cancellation of overdue orders; the deadline is in the database, so it survives anything.
pub struct CancelOverdue {
    /// Where the decisions are taken.
    pub decisions: Decisions<Orders>,
}

impl Errand for CancelOverdue {
    type Job = (Uuid, TraceContext);

    const NAME: &'static str = "cancel overdue order";

    async fn take(&self, session: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Self::Job>> {
        store::take_overdue(session, limit).await
    }

    async fn perform(&self, (id, _): Self::Job) -> anyhow::Result<()> {
        let give_up = move |orders: &mut Orders| {
            let order = orders
                .orders
                .get_mut(&id)
                .filter(|order| order.state().awaits_payment());
            (
                (),
                order.and_then(|order| order.request_cancellation(CancelReason::DeadlineExceeded, "deadline").1),
            )
        };
        Ok(self.decisions.decide(Touched::order(id), give_up).await?)
    }

    fn trace((_, trace): &Self::Job) -> &TraceContext {
        trace
    }

    async fn next_due(&self, session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
        store::next_overdue(session).await
    }
}

/// How long what was answered under an idempotency key can be asked for again.
const KEYS_KEEP: Duration = Duration::from_secs(24 * 3600);
/// How often older answers are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// How many one statement forgets, so that none takes long.
const FORGET_AT_ONCE: i64 = 1_000;

/// Forgets what was answered under idempotency keys a day ago, until shutdown.
pub async fn forget_keys(db: Db, shutdown: CancellationToken) {
    let mut clock = tokio::time::interval(FORGET_EVERY);
    while shutdown.run_until_cancelled(clock.tick()).await.is_some() {
        if let Err(error) = forget_old_keys(&db).await {
            tracing::warn!(%error, "old idempotency keys could not be forgotten, will be tried again");
        }
    }
}

/// Forgets what is too old, in chunks, and says how many there were.
pub async fn forget_old_keys(db: &Db) -> sqlx::Result<u64> {
    let mut all = 0;
    loop {
        let forgotten = store::forget_answers(db.pool(), KEYS_KEEP, FORGET_AT_ONCE).await?;
        all += forgotten;
        if forgotten < FORGET_AT_ONCE.unsigned_abs() {
            return Ok(all);
        }
    }
}

/// Between two counts of the sagas.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Shows how many sagas are under way in each state, and how many of them need a human, until shutdown.
pub async fn measure_sagas(db: Db, patience: Patience, shutdown: CancellationToken) {
    let meter = telemetry::metrics::meter();
    let gauge = |name, description| meter.u64_gauge(name).with_description(description).build();
    let (open, stuck) = (
        gauge("shop.sagas.open", "Orders that still wait for something, by state"),
        gauge(
            "shop.sagas.stuck",
            "Orders that stand still and need attention, by state",
        ),
    );
    let mut known_stuck = 0;
    let mut clock = tokio::time::interval(COUNT_EVERY);
    while shutdown.run_until_cancelled(clock.tick()).await.is_some() {
        match store::open_sagas(db.pool(), &patience).await {
            Ok(counts) => {
                for state in STATES {
                    let count = counts.iter().find(|count| count.state == state);
                    let label = [KeyValue::new("state", state)];
                    open.record(count.map_or(0, |count| count.all.unsigned_abs()), &label);
                    stuck.record(count.map_or(0, |count| count.stuck.unsigned_abs()), &label);
                }
                let now_stuck: i64 = counts.iter().map(|count| count.stuck).sum();
                if now_stuck > known_stuck {
                    tracing::error!(
                        orders = now_stuck,
                        "orders stand still: GET /v1/orders?needs_attention=true"
                    );
                }
                known_stuck = now_stuck;
            }
            Err(error) => tracing::warn!(%error, "cannot count the sagas"),
        }
    }
}
