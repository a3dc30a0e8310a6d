//! What payment does unasked: it charges at the gateway, finds out what became of a charge, and gives money back.
//!
//! Every attempt is counted in the database before the call. An attempt without an answer is never taken for a
//! refusal: the gateway is asked what it did, and the charge is only ever repeated under the same key.

mod returns;

use std::time::{Duration, Instant};

use anyhow::ensure;
use events::After;
use messaging::fault_points::reach;
use messaging::{Decisions, Errand, Touched};
use sqlx::PgConnection;
use telemetry::TraceContext;

use crate::Patience;
use crate::clients::{Failure, Gateway, Standing};
use crate::domain::{Outcome, Payments, refund_id};
use crate::store::{self, DueCharge, DueRefund, Take};

pub use returns::{RefundReturn, measure_refunds};

/// The first pause between attempts at most; it doubles with every attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause while an order waits.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause when no order waits any more.
const LONGEST_PAUSE_AFTERWARDS: Duration = Duration::from_secs(30);
/// From so many attempts on, a refund that fails is worth an operator's look.
const MANY_ATTEMPTS: i32 = 10;

/// Charges what is due, or finds out what became of it.
pub struct Charge {
    /// Where the outcome is settled.
    pub decisions: Decisions<Payments>,
    /// Who takes the money.
    pub gateway: Gateway,
    /// How long to wait for what.
    pub patience: Patience,
}

impl Errand for Charge {
    type Job = DueCharge;

    const NAME: &'static str = "charge";

    /// While the gateway cannot be reached, only what is to be given up is taken.
    async fn take(&self, session: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<DueCharge>> {
        let breaker = self.gateway.breaker();
        let admitted = breaker.admit(limit, Instant::now());
        if admitted == 0 && !breaker.is_open() {
            return Ok(Vec::new());
        }
        let take = Take {
            limit: if admitted == 0 { limit } else { admitted },
            shut_out: admitted == 0,
            lease: self.patience.lease(),
            give_up_after: self.patience.give_up_after,
        };
        let jobs = store::take_charges(session, take).await?;
        if admitted > 0 {
            breaker.give_back(admitted - jobs.len() as i64, Instant::now());
        }
        Ok(jobs)
    }

    async fn perform(&self, job: DueCharge) -> anyhow::Result<()> {
        let (order_id, attempt) = (job.charge.order_id, job.attempt);
        reach("gateway.unasked").await?;
        let outcome = self.attempt(&job).await?;
        reach("gateway.answered").await?;
        if let Outcome::Unknown { trouble, .. } = outcome {
            tracing::warn!(%order_id, attempt, trouble, "the gateway did not say what became of a charge");
        }
        let settle = move |payments: &mut Payments| {
            let told = payments.settle(order_id, attempt, outcome.clone());
            ((), After(payments.asked_by.get(&order_id).copied(), told))
        };
        Ok(self.decisions.decide(Touched::order(order_id), settle).await?)
    }

    fn trace(job: &DueCharge) -> &TraceContext {
        &job.trace
    }

    async fn next_due(&self, session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
        let due = store::next_charge(session).await?;
        Ok(due.map(|due| due.max(self.gateway.breaker().pause(Instant::now()))))
    }
}

impl Charge {
    /// One attempt: what was asked for before is looked up before it is asked for again.
    async fn attempt(&self, job: &DueCharge) -> anyhow::Result<Outcome> {
        if job.shut_out {
            return Ok(self.unknown(job, Failure::UNREACHABLE));
        }
        // What is to be given up or was called off is asked for all the same: somebody waits for the answer.
        if job.wanted && !self.gateway.may_try(job.attempt) {
            return Ok(self.unknown(job, Failure::HELD_BACK));
        }
        if job.attempt > 1 || !job.wanted {
            match self.gateway.look_up(job.charge.order_id).await {
                Ok(Some(standing)) => return Ok(self.found(job, standing).await),
                Ok(None) if job.wanted => {}
                Ok(None) => return Ok(self.not_charged()),
                Err(failure) => {
                    let failure = Failure {
                        doubt: false,
                        ..failure
                    };
                    return Ok(self.unknown(job, failure));
                }
            }
        }
        // Whoever holds the payment next must find this call's effect, so it never begins late.
        ensure!(
            job.taken.elapsed() < self.patience.lease() / 2,
            "held up for too long to begin a call"
        );
        Ok(match self.gateway.charge(&job.charge).await {
            Ok(standing) => self.found(job, standing).await,
            Err(failure) => self.unknown(job, failure),
        })
    }

    /// What is no longer wanted and could still be charged is called off.
    async fn found(&self, job: &DueCharge, standing: Standing) -> Outcome {
        match standing {
            Standing::Charged { id } => Outcome::Charged { gateway_ref: id },
            Standing::Declined { id, code } => {
                if let Some(id) = id.filter(|_| !job.wanted) {
                    // It took nothing either way.
                    let _ = self.gateway.cancel(&id, job.charge.payment_id).await;
                }
                Outcome::Declined { code }
            }
            Standing::Canceled if job.wanted => Outcome::Declined {
                code: "payment_canceled".to_owned(),
            },
            Standing::Canceled => self.not_charged(),
            Standing::Open { .. } if job.wanted => self.unknown(job, Failure::UNDECIDED),
            Standing::Open { id } => match self.gateway.cancel(&id, job.charge.payment_id).await {
                Ok(()) => self.not_charged(),
                Err(failure) => self.unknown(job, failure),
            },
        }
    }

    fn not_charged(&self) -> Outcome {
        Outcome::NotCharged {
            look_again: self.patience.settles_within,
        }
    }

    /// An order that waits is asked for once more when its time is up, however long the pause would be.
    fn unknown(&self, job: &DueCharge, failure: Failure) -> Outcome {
        let left = job.give_up_in.saturating_sub(job.taken.elapsed());
        let wait = |longest| pause(job.attempt, longest).max(failure.retry_after);
        let wait = if job.awaited && !job.overdue {
            wait(LONGEST_PAUSE).min(left)
        } else {
            wait(LONGEST_PAUSE_AFTERWARDS)
        };
        Outcome::Unknown {
            trouble: failure.trouble,
            doubt: job.doubt || failure.doubt,
            wait,
            last: job.overdue,
        }
    }
}

/// Gives back what is due, for as long as it takes.
pub struct Refund {
    /// Where the outcome is settled.
    pub decisions: Decisions<Payments>,
    /// Who gives the money back.
    pub gateway: Gateway,
    /// How long to wait for what.
    pub patience: Patience,
}

impl Errand for Refund {
    type Job = DueRefund;

    const NAME: &'static str = "refund";

    async fn take(&self, session: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<DueRefund>> {
        let admitted = self.gateway.breaker().admit(limit, Instant::now());
        if admitted == 0 {
            return Ok(Vec::new());
        }
        let jobs = store::take_refunds(session, admitted, self.patience.lease()).await?;
        let unused = admitted - jobs.len() as i64;
        self.gateway.breaker().give_back(unused, Instant::now());
        Ok(jobs)
    }

    async fn perform(&self, job: DueRefund) -> anyhow::Result<()> {
        let DueRefund { order_id, attempt, .. } = job;
        reach("gateway.unasked").await?;
        let refunded = match self.gateway.may_try(attempt) {
            true => {
                let refund = self.gateway.refund(refund_id(order_id), &job.gateway_ref, job.amount);
                refund.await
            }
            false => Err(Failure::HELD_BACK),
        };
        reach("gateway.answered").await?;
        let touched = Touched::order(order_id);
        let failure = match refunded {
            Ok(gateway_ref) => {
                let settle = move |payments: &mut Payments| {
                    let told = payments.settle_refund(order_id, gateway_ref.clone());
                    ((), After(payments.asked_by.get(&order_id).copied(), told))
                };
                return Ok(self.decisions.decide(touched, settle).await?);
            }
            Err(failure) => failure,
        };
        let trouble = failure.trouble;
        if attempt < MANY_ATTEMPTS {
            tracing::warn!(%order_id, attempt, trouble, "a refund is not through, will be tried again");
        } else {
            tracing::error!(%order_id, attempt, trouble, "a refund still is not through: somebody should look");
        }
        let wait = pause(attempt, LONGEST_PAUSE_AFTERWARDS).max(failure.retry_after);
        let settle = move |payments: &mut Payments| ((), payments.put_off_refund(order_id, attempt, trouble, wait));
        Ok(self.decisions.decide(touched, settle).await?)
    }

    fn trace(job: &DueRefund) -> &TraceContext {
        &job.trace
    }

    async fn next_due(&self, session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
        let due = store::next_refund(session).await?;
        Ok(due.map(|due| due.max(self.gateway.breaker().pause(Instant::now()))))
    }
}

/// Exponential with full jitter, so that those who failed together do not come back together.
fn pause(attempt: i32, longest: Duration) -> Duration {
    let doublings = attempt.clamp(1, 16) - 1;
    let at_most = (FIRST_PAUSE * (1 << doublings)).min(longest);
    at_most.mul_f64(fastrand::f64())
}
