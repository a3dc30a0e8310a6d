//! What the warehouse does unasked: it hands parcels to the carrier, sees them arrive, and takes back what returns.
//!
//! All errands read the state again when they settle, so a parcel that was called off, or moved on
//! by hand meanwhile, is left alone.

use std::time::Duration;

use anyhow::Context as _;
use messaging::fault_points::reach;
use messaging::{Decisions, Errand, Touched};
use sqlx::PgConnection;
use telemetry::TraceContext;

use crate::clients::Carrier;
use crate::domain::{State, Warehouse};
use crate::store::{self, Due, DueReturn};

/// Hands scheduled parcels to the carrier.
pub struct Dispatch {
    /// Where the outcome is settled.
    pub decisions: Decisions<Warehouse>,
    /// Who takes the parcels.
    pub carrier: Carrier,
    /// How long picking takes.
    pub delay: Duration,
}

impl Errand for Dispatch {
    type Job = Due;

    const NAME: &'static str = "dispatch";

    async fn take(&self, session: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Due>> {
        store::take_due(session, State::Scheduled, self.delay, limit).await
    }

    async fn perform(&self, job: Due) -> anyhow::Result<()> {
        let ship_to = job.ship_to.context("a scheduled parcel has no address")?;
        let handover = self.carrier.hand_over(job.shipment_id, &ship_to).await?;
        reach("carrier.handed-over").await?;
        let settle = move |warehouse: &mut Warehouse| ((), warehouse.settle(job.order_id, &handover));
        Ok(self
            .decisions
            .after(job.cause)
            .decide(Touched::order(job.order_id), settle)
            .await?)
    }

    fn trace(job: &Due) -> &TraceContext {
        &job.trace
    }

    async fn next_due(&self, session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
        store::next_due(session, State::Scheduled, self.delay).await
    }
}

/// Sees dispatched parcels arrive.
pub struct Deliver {
    /// Where the arrival is settled.
    pub decisions: Decisions<Warehouse>,
    /// How long a parcel is on its way.
    pub delay: Duration,
}

impl Errand for Deliver {
    type Job = Due;

    const NAME: &'static str = "deliver";

    async fn take(&self, session: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Due>> {
        store::take_due(session, State::Dispatched, self.delay, limit).await
    }

    async fn perform(&self, job: Due) -> anyhow::Result<()> {
        let settle = move |warehouse: &mut Warehouse| ((), warehouse.deliver(job.order_id, job.taken_at));
        Ok(self
            .decisions
            .after(job.cause)
            .decide(Touched::order(job.order_id), settle)
            .await?)
    }

    fn trace(job: &Due) -> &TraceContext {
        &job.trace
    }

    async fn next_due(&self, session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
        store::next_due(session, State::Dispatched, self.delay).await
    }
}

/// Takes back what comes back, unopened.
pub struct TakeBack {
    /// Where the outcome is settled.
    pub decisions: Decisions<Warehouse>,
    /// How long the goods are on their way.
    pub delay: Duration,
}

impl Errand for TakeBack {
    type Job = DueReturn;

    const NAME: &'static str = "take back";

    async fn take(&self, session: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<DueReturn>> {
        store::take_due_returns(session, self.delay, limit).await
    }

    async fn perform(&self, job: DueReturn) -> anyhow::Result<()> {
        let settle = move |warehouse: &mut Warehouse| ((), warehouse.receive_unopened(job.return_id));
        Ok(self
            .decisions
            .after(job.cause)
            .decide(Touched::order(job.order_id), settle)
            .await?)
    }

    fn trace(job: &DueReturn) -> &TraceContext {
        &job.trace
    }

    async fn next_due(&self, session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
        store::next_due_return(session, self.delay).await
    }
}
