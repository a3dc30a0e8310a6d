//! What email does unasked: it sends the messages that are due.

use std::time::Duration;

use messaging::fault_points::reach;
use messaging::{Decisions, Errand, Touched};
use sqlx::PgConnection;
use telemetry::TraceContext;

use crate::clients::{Mail, Mailer, Undelivered};
use crate::domain::{Mailroom, Outcome, message_id, notification_id};
use crate::store::{self, Due};
use crate::templates;

/// How long a message belongs to whoever took it; longer than any attempt may take.
const LEASE: Duration = Duration::from_secs(60);
/// The pause after the first attempt; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// How often a message is tried at least, even if its time is over after a long outage.
const LEAST_ATTEMPTS: u32 = 5;

/// Sends messages and tells what became of them.
pub struct SendMail {
    /// Where outcomes are settled.
    pub decisions: Decisions<Mailroom>,
    /// Where messages go.
    pub mailer: Mailer,
}

impl Errand for SendMail {
    type Job = Due;

    const NAME: &'static str = "send mail";

    async fn take(&self, session: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Due>> {
        store::take_due(session, LEASE, limit).await
    }

    /// A crash after the hand-over and before the settlement sends the message again, with the same id.
    async fn perform(&self, due: Due) -> anyhow::Result<()> {
        let (order_id, topic) = (due.order_id, due.content.topic());
        let decisions = self.decisions.after(due.cause);
        let mail = Mail {
            notification_id: notification_id(order_id, topic),
            message_id: message_id(order_id, topic),
            to: due.recipient.customer.email.clone(),
            rendered: templates::render(order_id, &due.recipient, &due.content),
        };
        reach("mail.unsent").await?;
        let outcome = match self.mailer.send(&mail).await {
            Ok(()) => Outcome::Delivered,
            Err(reason) => after(&due, &reason),
        };
        reach("mail.sent").await?;
        let settle = move |mailroom: &mut Mailroom| ((), mailroom.settle(order_id, topic, outcome));
        Ok(decisions.decide(Touched::order(order_id), settle).await?)
    }

    fn trace(due: &Due) -> &TraceContext {
        &due.trace
    }

    async fn next_due(&self, session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
        store::next_due(session).await
    }
}

/// Tries again until the message's time is over, unless that is pointless.
fn after(due: &Due, undelivered: &Undelivered) -> Outcome {
    let (order_id, template, attempts) = (due.order_id, due.content.topic().template.as_str(), due.attempts);
    match undelivered {
        Undelivered::ForNow(reason) if !due.time_is_over || attempts < LEAST_ATTEMPTS => {
            tracing::warn!(%order_id, template, attempts, reason, "a message was not taken, will be tried again");
            Outcome::Postponed(pause(attempts))
        }
        Undelivered::ForNow(reason) | Undelivered::ForGood(reason) => {
            tracing::error!(%order_id, template, attempts, reason, "a message was given up");
            Outcome::Refused
        }
    }
}

/// Exponential; half of it is chance, so that messages that failed together do not come back together.
fn pause(attempts: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_never_endless() {
        for attempts in 1..100 {
            let pause = pause(attempts);
            assert!(
                pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE,
                "{attempts}: {pause:?}"
            );
        }
        assert!(pause(10) > pause(1) * 8);
    }
}
