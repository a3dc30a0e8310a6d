//! The unit of work: a batch of decisions in one transaction, with a constant number of statements.
//!
//! ```text
//! begin
//!   claim the inbox rows of all events of the batch          (events only)
//!   load everything the batch touches
//!     decide, decide, decide …                               no I/O
//!   write the events that follow to the outbox
//!   save everything that changed
//!   bury what cannot be handled                              (only if there is any)
//! commit
//! ```

use std::collections::{BTreeSet, HashSet};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use events::{Event, Subject};
use futures_util::FutureExt;
use opentelemetry::KeyValue;
use telemetry::{Kind, Span, TraceContext, semconv};
use uuid::Uuid;

use crate::dead_letters::{self, Letter};
use crate::fault_points::reach;
use crate::inbox::{self, Claim};
use crate::outbox::{self, Entry};
use crate::{Db, Draft, Envelope, Fault, Trouble, Tx};

/// How often a lost race is run again before giving up: a second at most, all in all.
const RACES: u32 = 20;

/// How long one attempt may take: longer than the server lets any statement of it run.
const WITHIN: Duration = Duration::from_secs(10);

/// What a service knows about the orders of a batch: loaded, decided upon and saved once a batch.
pub trait WorkingSet: Sized + Send + 'static {
    /// Reads, and locks in a fixed order, every row that the batch may change.
    fn load(tx: &mut Tx, touched: &Touched) -> impl Future<Output = sqlx::Result<Self>> + Send;

    /// Writes what changed, one statement a table; the journal holds every event heard and told.
    fn save(self, tx: &mut Tx, journal: &Journal) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Events that sum the batch up, told once after all its decisions.
    fn summary(&mut self) -> Vec<Draft> {
        Vec::new()
    }
}

/// The identities that a batch is about, each once and in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Orders.
    pub orders: BTreeSet<Uuid>,
    /// Natural keys: skus, idempotency keys.
    pub keys: BTreeSet<String>,
}

impl Touched {
    /// Touches one order.
    pub fn order(id: Uuid) -> Self {
        Self {
            orders: BTreeSet::from([id]),
            keys: BTreeSet::new(),
        }
    }

    /// Touches one natural key.
    pub fn key(key: impl Into<String>) -> Self {
        Self {
            orders: BTreeSet::new(),
            keys: BTreeSet::from([key.into()]),
        }
    }

    /// Touches the key as well.
    #[must_use]
    pub fn and_key(mut self, key: impl Into<String>) -> Self {
        self.keys.insert(key.into());
        self
    }

    /// What an event touches.
    pub fn by<E: Event>(event: &E) -> Self {
        let mut touched = match event.subject() {
            Subject::Order(id) => Self::order(id),
            Subject::Product(sku) => Self::key(sku),
        };
        touched.keys.extend(event.skus().into_iter().map(str::to_owned));
        touched
    }

    /// The orders as a list for a query.
    pub fn order_ids(&self) -> Vec<Uuid> {
        self.orders.iter().copied().collect()
    }

    /// The keys as a list for a query.
    pub fn key_list(&self) -> Vec<String> {
        self.keys.iter().cloned().collect()
    }

    fn extend(&mut self, other: &Self) {
        self.orders.extend(&other.orders);
        self.keys.extend(other.keys.iter().cloned());
    }
}

/// The events that a unit of work heard and told, in that order.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    /// Events of others whose effect this unit commits.
    pub heard: Vec<Envelope>,
    /// Events that follow from it.
    pub told: Vec<Envelope>,
}

/// A decision over what is known; called again when a race was lost.
pub(crate) type Decide<'a, W> = dyn FnMut(&mut W) -> Result<Vec<Draft>, Fault> + Send + 'a;

/// One decision of a batch.
pub(crate) struct Job<'a, W> {
    pub(crate) touched: &'a Touched,
    /// The event that asks for it, or none for a command.
    pub(crate) heard: Option<&'a Letter>,
    /// The event that a command follows from, if any.
    pub(crate) cause: Option<Uuid>,
    /// Parent of the spans of the events that follow.
    pub(crate) trace: TraceContext,
    /// None when there is nothing to decide about what was heard.
    pub(crate) decide: Option<&'a mut Decide<'a, W>>,
}

/// What became of one decision once its unit has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its effect is committed.
    Done,
    /// It tells in a later version what is heard in an earlier one; nothing happened.
    Ignored,
    /// It had been committed before; nothing happened.
    AlreadyDone,
    /// It is among the dead letters.
    Buried(Fault),
    /// It waits behind a dead letter of the same subject.
    Parked,
}

/// Commits a batch, all or nothing, except that faulty events are buried alone.
pub(crate) async fn commit<W: WorkingSet>(
    db: &Db,
    consumer: &str,
    jobs: &mut [Job<'_, W>],
) -> Result<Vec<Verdict>, Trouble> {
    let spans = commit_spans(db, jobs);
    let outcome = race(db, consumer, jobs).await;
    if outcome.is_err() {
        spans.iter().for_each(|span| span.fail("not_committed"));
    }
    outcome
}

/// One in each trace that the batch is part of: a transaction of many decisions has no parent of its own.
fn commit_spans<W>(db: &Db, jobs: &[Job<'_, W>]) -> Vec<Span> {
    let mut known = HashSet::new();
    let parents = jobs.iter().map(|job| &job.trace);
    let sampled = parents.filter(|parent| parent.is_sampled() && known.insert(parent.traceparent()));
    let options = db.pool().connect_options();
    let database = options.get_database().unwrap_or_default();
    let span = |parent| {
        Span::start(Kind::Client, format!("COMMIT {database}"), parent, || {
            let mut attributes = vec![
                KeyValue::new(semconv::DB_SYSTEM_NAME, "postgresql"),
                KeyValue::new(semconv::DB_NAMESPACE, database.to_owned()),
                KeyValue::new(semconv::DB_OPERATION_NAME, "COMMIT"),
            ];
            if jobs.len() > 1 {
                attributes.push(KeyValue::new(semconv::DB_OPERATION_BATCH_SIZE, jobs.len() as i64));
            }
            attributes
        })
    };
    sampled.map(span).collect()
}

/// After a lost race everything is loaded and decided again; a panic is a broken batch, no more.
async fn race<W: WorkingSet>(db: &Db, consumer: &str, jobs: &mut [Job<'_, W>]) -> Result<Vec<Verdict>, Trouble> {
    let mut races = 0;
    loop {
        let attempt = AssertUnwindSafe(attempt(db, consumer, jobs)).catch_unwind();
        let outcome = match tokio::time::timeout(WITHIN, attempt).await {
            Ok(outcome) => outcome.unwrap_or_else(|_| Err(Trouble::Broken("the decision panicked".into()))),
            Err(_) => Err(Trouble::Unavailable(sqlx::Error::PoolTimedOut)),
        };
        match outcome {
            Err(Trouble::Conflict(_)) if races < RACES => races += 1,
            outcome => return outcome,
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..4 << races.min(5)))).await;
    }
}

async fn attempt<W: WorkingSet>(db: &Db, consumer: &str, jobs: &mut [Job<'_, W>]) -> Result<Vec<Verdict>, Trouble> {
    let mut tx = db.begin().await?;
    let letters: Vec<Option<&Letter>> = jobs.iter().map(|job| job.heard).collect();
    let claims = inbox::claim(&mut tx, consumer, &letters).await?;

    reach("unit.claimed").await.map_err(sqlx::Error::from)?;
    let mut touched = Touched::default();
    for job in jobs.iter().filter(|job| claims.are_fresh(job.heard)) {
        touched.extend(job.touched);
    }
    let mut known = W::load(&mut tx, &touched).await?;

    let decided = decide(&mut known, jobs, claims);
    let told = outbox::append(&mut tx, decided.entries).await?;
    known
        .save(
            &mut tx,
            &Journal {
                heard: decided.heard,
                told,
            },
        )
        .await?;
    dead_letters::bury(&mut tx, consumer, &letters, &decided.verdicts).await?;
    reach("unit.saved").await.map_err(sqlx::Error::from)?;
    tx.commit().await?;
    reach("unit.committed").await.map_err(sqlx::Error::from)?;
    db.announce_commit();
    Ok(decided.verdicts)
}

struct Decided {
    verdicts: Vec<Verdict>,
    entries: Vec<Entry>,
    heard: Vec<Envelope>,
}

/// The only part that thinks, and it does no I/O.
fn decide<W: WorkingSet>(known: &mut W, jobs: &mut [Job<'_, W>], mut claims: inbox::Claims) -> Decided {
    let mut decided = Decided {
        verdicts: Vec::with_capacity(jobs.len()),
        entries: Vec::new(),
        heard: Vec::new(),
    };
    let mut poisoned: HashSet<String> = HashSet::new();
    for job in jobs.iter_mut() {
        let envelope = job.heard.map(|letter| &letter.envelope);
        let claim = envelope.map_or(Claim::Fresh, |envelope| claims.spend(envelope.event_id));
        let is_poisoned = envelope.is_some_and(|envelope| poisoned.contains(&envelope.subject));
        let verdict = match (claim, job.decide.as_mut()) {
            (Claim::Taken, _) => Verdict::AlreadyDone,
            (_, None) => Verdict::Ignored,
            (Claim::Blocked, _) => Verdict::Parked,
            (Claim::Fresh, _) if is_poisoned => Verdict::Parked,
            (Claim::Fresh, Some(decide)) => match decide(known) {
                Ok(drafts) => {
                    let cause = envelope.map(|envelope| envelope.event_id).or(job.cause);
                    let entries = drafts.into_iter().map(|draft| Entry {
                        cause: draft.cause.or(cause),
                        draft,
                        parent: job.trace.clone(),
                    });
                    decided.entries.extend(entries);
                    decided.heard.extend(envelope.cloned());
                    Verdict::Done
                }
                Err(fault) => {
                    poisoned.extend(envelope.map(|envelope| envelope.subject.clone()));
                    Verdict::Buried(fault)
                }
            },
        };
        decided.verdicts.push(verdict);
    }
    summarise(known, jobs, &mut decided);
    decided
}

/// A summary joins the trace of the last decision it sums up, so that it is never an orphan.
fn summarise<W: WorkingSet>(known: &mut W, jobs: &[Job<'_, W>], decided: &mut Decided) {
    let done = jobs
        .iter()
        .zip(&decided.verdicts)
        .rev()
        .find(|(_, verdict)| **verdict == Verdict::Done);
    let Some((last, _)) = done else { return };
    let cause = last.heard.map(|letter| letter.envelope.event_id).or(last.cause);
    let entries = known.summary().into_iter().map(|draft| Entry {
        draft,
        cause,
        parent: last.trace.clone(),
    });
    decided.entries.extend(entries);
}
