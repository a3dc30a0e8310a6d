//! Redrive: what an operator wants tried again, and what waited behind it, is handled as if it had just been delivered.
//!
//! The operator only marks; this task, of which every replica has one, looks for marked events whose turn
//! it is: the first open one of its subject. It takes one at a time with a lease and hands it to the same
//! unit of work that handles deliveries. The unit claims the inbox row and then locks the dead letter, so
//! two replicas that try the same event act once, and the loser finds it settled. Parked events follow
//! when nothing is open before them, at once; `due_at` paces only those that were marked.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::letter::{Letter, Place};
use crate::heard::Heard;
use crate::unit::Verdict;
use crate::{Db, Fault, Reactions, Trouble, WorkingSet};

/// How often it is looked for marked events.
const IDLE: Duration = Duration::from_millis(500);
/// The shortest pause, when the next event is due very soon.
const SOON: Duration = Duration::from_millis(2);
/// How long nobody else tries an event that is being tried.
const LEASE: Duration = Duration::from_secs(15);
/// How often a process may die over a redriven event before that is dead again.
pub(super) const LIVES: i32 = 3;

/// Handles what was marked until shutdown.
pub(crate) async fn redrive<W: WorkingSet>(db: Db, reactions: Arc<Reactions<W>>, shutdown: CancellationToken) {
    let redriver = Redriver { db, reactions };
    while !shutdown.is_cancelled() {
        let pause = match redriver.next(&shutdown).await {
            Ok(true) => continue,
            Ok(false) => redriver.until_due().await,
            Err(error) => {
                tracing::warn!(%error, "cannot redrive dead letters now, will try again");
                IDLE
            }
        };
        shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

struct Redriver<W> {
    db: Db,
    reactions: Arc<Reactions<W>>,
}

impl<W: WorkingSet> Redriver<W> {
    /// Handles one event, if any is due.
    async fn next(&self, shutdown: &CancellationToken) -> Result<bool, Trouble> {
        let Some(taken) = self.take().await? else {
            return Ok(false);
        };
        let (mut letter, readable) = Letter::kept(taken.place, &taken.headers, taken.payload, taken.attempts + 1);
        // Whatever its headers say: it is this dead letter.
        letter.envelope.event_id = taken.event_id;
        letter.envelope.subject = taken.subject;
        let mut heard = Heard::of(&self.reactions, (letter, readable));
        if taken.begun > LIVES {
            heard.prepared = Err(Fault::new("redriven, and never with an outcome"));
        }
        self.handle(heard, shutdown).await;
        Ok(true)
    }

    /// Tries until there is an outcome; what fails for a reason of its own is dead again.
    async fn handle(&self, mut heard: Heard<W>, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let one = std::iter::once(&mut heard);
            match Heard::commit(&self.db, self.reactions.service(), one).await {
                Ok(verdicts) => return settled(&heard, verdicts.first()),
                Err(Trouble::Unavailable(error)) => {
                    tracing::warn!(%error, "cannot redrive an event now, still trying");
                    shutdown.run_until_cancelled(tokio::time::sleep(IDLE)).await;
                }
                Err(trouble) if heard.prepared.is_err() => {
                    let event_id = heard.letter.envelope.event_id;
                    tracing::error!(%event_id, error = %trouble, "a dead letter cannot be kept, will try again");
                    return;
                }
                Err(trouble) => heard.prepared = Err(Fault::new(trouble.to_string())),
            }
        }
    }

    /// Leases the event that is due first among those with nothing open before them.
    ///
    /// First of its subject is the earliest event of the stream that was there first.
    async fn take(&self) -> sqlx::Result<Option<Taken>> {
        let due = sqlx::query!(
            r#"
            with due as (
                select d.id from dead_letters d
                where d.consumer = $1 and d.closed_at is null and d.state <> 'dead' and d.due_at <= now()
                  and d.id = (
                      select o.id from dead_letters o
                      where o.consumer = $1 and o.subject = d.subject and o.closed_at is null
                      order by o.stream <> (
                          select f.stream from dead_letters f
                          where f.consumer = $1 and f.subject = d.subject and f.closed_at is null
                          order by f.id limit 1
                      ), o.stream_sequence limit 1)
                order by d.due_at limit 1
                for update skip locked
            )
            update dead_letters d set begun = begun + 1, due_at = now() + $2 * interval '1 millisecond'
            from due where d.id = due.id
            returning d.event_id, d.subject, d.nats_subject, d.stream, d.stream_sequence, d.headers, d.payload,
                      d.attempts, d.begun
            "#,
            self.reactions.service(),
            LEASE.as_millis() as f64,
        );
        let row = self.db.once(async |session| due.fetch_optional(session).await).await?;
        Ok(row.map(|row| Taken {
            event_id: row.event_id,
            subject: row.subject,
            place: Place {
                nats_subject: row.nats_subject,
                stream: row.stream,
                sequence: row.stream_sequence,
            },
            headers: row.headers,
            payload: row.payload,
            attempts: row.attempts,
            begun: row.begun,
        }))
    }

    async fn until_due(&self) -> Duration {
        let due = sqlx::query_scalar!(
            r#"
            select (extract(epoch from min(due_at) - clock_timestamp()) * 1000)::bigint
            from dead_letters
            where consumer = $1 and closed_at is null and state = 'redriven' and due_at > now()
            "#,
            self.reactions.service(),
        );
        let due = self.db.once(async |session| due.fetch_one(session).await).await;
        let due = due
            .ok()
            .flatten()
            .map(|ms| Duration::from_millis(ms.max(0).unsigned_abs()));
        due.map_or(IDLE, |due| due.clamp(SOON, IDLE))
    }
}

/// A dead letter that this replica tries now.
struct Taken {
    event_id: Uuid,
    subject: String,
    place: Place,
    headers: serde_json::Value,
    payload: Vec<u8>,
    attempts: i64,
    begun: i32,
}

fn settled<W>(heard: &Heard<W>, verdict: Option<&Verdict>) {
    let envelope = &heard.letter.envelope;
    let (event_id, event_type) = (envelope.event_id, envelope.event_type.as_str());
    match verdict {
        Some(Verdict::Buried(fault)) => {
            heard.span.fail("dead_letter");
            tracing::error!(%event_id, event_type, reason = %fault, "a redriven event is a dead letter again");
        }
        Some(Verdict::AlreadyDone) => heard.span.set(KeyValue::new("shop.inbox.duplicate", true)),
        _ => tracing::info!(%event_id, event_type, "a dead letter was handled"),
    }
}
