//! Refunds of returns: each on its own, so that one that is refused holds up no other.

use std::time::{Duration, Instant};

use messaging::fault_points::reach;
use messaging::{Db, Decisions, Errand, Touched};
use sqlx::PgConnection;
use telemetry::TraceContext;
use tokio_util::sync::CancellationToken;

use super::{LONGEST_PAUSE_AFTERWARDS, MANY_ATTEMPTS, pause};
use crate::Patience;
use crate::clients::{Failure, Gateway};
use crate::domain::{Payments, refund_key};
use crate::store::{self, DueReturnRefund};

/// Gives back what returns are worth; what the gateway refuses for good is left to an operator.
pub struct RefundReturn {
    /// Where the outcome is settled.
    pub decisions: Decisions<Payments>,
    /// Who gives the money back.
    pub gateway: Gateway,
    /// How long to wait for what.
    pub patience: Patience,
}

impl Errand for RefundReturn {
    type Job = DueReturnRefund;

    const NAME: &'static str = "refund return";

    async fn take(&self, session: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<DueReturnRefund>> {
        let admitted = self.gateway.breaker().admit(limit, Instant::now());
        if admitted == 0 {
            return Ok(Vec::new());
        }
        let jobs = store::take_return_refunds(session, admitted, self.patience.lease()).await?;
        let unused = admitted - jobs.len() as i64;
        self.gateway.breaker().give_back(unused, Instant::now());
        Ok(jobs)
    }

    async fn perform(&self, job: DueReturnRefund) -> anyhow::Result<()> {
        let (order_id, return_id, attempt) = (job.order_id, job.return_id, job.attempt);
        reach("gateway.unasked").await?;
        let refunded = match self.gateway.may_try(attempt) {
            true => {
                let key = refund_key(return_id, job.retries);
                self.gateway.refund(key, &job.gateway_ref, job.amount).await
            }
            false => Err(Failure::HELD_BACK),
        };
        reach("gateway.answered").await?;
        let (decisions, touched) = (self.decisions.after(job.cause), Touched::order(order_id));
        let failure = match refunded {
            Ok(gateway_ref) => {
                let settle = move |payments: &mut Payments| {
                    (
                        (),
                        payments.settle_return_refund(order_id, return_id, gateway_ref.clone()),
                    )
                };
                return Ok(decisions.decide(touched, settle).await?);
            }
            Err(failure) => failure,
        };
        let (trouble, for_good) = (failure.trouble, failure.is_for_good());
        if for_good {
            tracing::error!(%order_id, %return_id, trouble, "a refund is refused: GET /v1/refunds?state=REFUSED");
        } else if attempt < MANY_ATTEMPTS {
            tracing::warn!(%order_id, %return_id, attempt, trouble, "a refund is not through, will be tried again");
        } else {
            tracing::error!(%order_id, %return_id, attempt, trouble, "a refund still is not through: somebody should look");
        }
        let wait = pause(attempt, LONGEST_PAUSE_AFTERWARDS).max(failure.retry_after);
        let settle = move |payments: &mut Payments| {
            if for_good {
                payments.refuse_return_refund(order_id, return_id, attempt, trouble);
            } else {
                payments.put_off_return_refund(order_id, return_id, attempt, (trouble, wait));
            }
            ((), ())
        };
        Ok(decisions.decide(touched, settle).await?)
    }

    fn trace(job: &DueReturnRefund) -> &TraceContext {
        &job.trace
    }

    async fn next_due(&self, session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
        let due = store::next_return_refund(session).await?;
        Ok(due.map(|due| due.max(self.gateway.breaker().pause(Instant::now()))))
    }
}

/// Between two counts of the refunds.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Shows how many refunds of returns are due, and how many wait for an operator, until shutdown.
pub async fn measure_refunds(db: Db, shutdown: CancellationToken) {
    let meter = telemetry::metrics::meter();
    let gauge = |name, description| meter.u64_gauge(name).with_description(description).build();
    let (due, refused) = (
        gauge("shop.refunds.due", "Refunds of returns that are still to be made"),
        gauge(
            "shop.refunds.refused",
            "Refunds of returns that the gateway refuses for good",
        ),
    );
    let mut clock = tokio::time::interval(COUNT_EVERY);
    while shutdown.run_until_cancelled(clock.tick()).await.is_some() {
        match store::open_return_refunds(db.pool()).await {
            Ok((waiting, stuck)) => {
                due.record(waiting.unsigned_abs(), &[]);
                refused.record(stuck.unsigned_abs(), &[]);
            }
            Err(error) => tracing::warn!(%error, "cannot count the refunds"),
        }
    }
}
