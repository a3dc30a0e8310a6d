//! What the order service does unasked: it gives up orders that were not paid in time.

use std::time::Duration;

use events::CancelReason;
use messaging::{Db, Decisions, Errand, Touched, Tx};
use telemetry::TraceContext;
use uuid::Uuid;

use crate::domain::Orders;
use crate::store;

/// Asks for the cancellation of overdue orders; the deadline is in the database, so it survives anything.
pub struct CancelOverdue {
    /// Where the decisions are taken.
    pub decisions: Decisions<Orders>,
}

impl Errand for CancelOverdue {
    type Job = (Uuid, TraceContext);

    const NAME: &'static str = "cancel overdue order";

    async fn take(&self, tx: &mut Tx, limit: i64) -> sqlx::Result<Vec<Self::Job>> {
        store::take_overdue(tx, limit).await
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

    async fn next_due(&self, db: &Db) -> sqlx::Result<Option<Duration>> {
        store::next_overdue(db.pool()).await
    }
}
