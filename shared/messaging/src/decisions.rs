//! Decisions that nobody's event asked for: HTTP requests, and the outcomes of errands.
//!
//! Requests that arrive while a transaction commits share the next one (group commit), so the
//! price of a commit is paid once a batch. The work runs in a task of its own: a client that hangs
//! up cannot leave a transaction half begun (sqlx issue 4385).

use telemetry::TraceContext;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::fault_points::reach;
use crate::pace::Pace;
use crate::unit::{self, Job, Verdict};
use crate::{Db, Draft, Emits, Fault, Touched, Trouble, WorkingSet};

/// How many decisions share one transaction at most.
const BATCH: usize = 128;
/// How many may wait before the next one is turned away.
const QUEUE: usize = 4 * BATCH;

/// Why a decision was not taken. Nothing of it was saved, except that the outcome of a commit that
/// was cut off is unknown: repeat the request with the same idempotency key.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Undecided {
    /// Too many wait already: try again later.
    #[error("too many requests wait")]
    Overloaded,
    /// The database is away, or the process ends: try again later.
    #[error("without its database: {0}")]
    Unavailable(String),
    /// A bug or a broken invariant.
    #[error("{0}")]
    Broken(String),
}

/// Takes decisions over one kind of working set; cheap to clone.
pub struct Decisions<W> {
    queue: mpsc::Sender<Box<dyn Command<W>>>,
    cause: Option<Uuid>,
}

impl<W> Clone for Decisions<W> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            cause: self.cause,
        }
    }
}

impl<W: WorkingSet> Decisions<W> {
    /// Starts the task that takes them; it ends when the last clone is gone and the queue is empty.
    pub fn start(db: Db) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(work(db, waiting));
        Self { queue, cause: None }
    }

    /// Decisions that follow from this event: it is the cause of whatever they tell.
    #[must_use]
    pub fn after(&self, cause: Option<Uuid>) -> Self {
        Self { cause, ..self.clone() }
    }

    /// Loads what is touched, decides, saves, commits, and then returns the decision's answer.
    ///
    /// `decide` may be called again when a race was lost, each time on what is known then.
    pub async fn decide<T, R, F>(&self, touched: Touched, decide: F) -> Result<T, Undecided>
    where
        T: Send + 'static,
        R: Emits,
        F: FnMut(&mut W) -> (T, R) + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let command = Asked {
            touched,
            cause: self.cause,
            trace: telemetry::current(),
            decide,
            answer: None,
            reply,
        };
        self.queue
            .try_send(Box::new(command))
            .map_err(|_| Undecided::Overloaded)?;
        answer
            .await
            .unwrap_or_else(|_| Err(Undecided::Unavailable("the process is ending".into())))
    }
}

/// A decision whose types are forgotten, so that different ones fit into one batch.
trait Command<W>: Send {
    fn touched(&self) -> &Touched;
    fn cause(&self) -> Option<Uuid>;
    fn trace(&self) -> TraceContext;
    fn decide(&mut self, known: &mut W) -> Result<Vec<Draft>, Fault>;
    fn reply(self: Box<Self>, outcome: Result<(), Undecided>);
}

struct Asked<T, F> {
    touched: Touched,
    cause: Option<Uuid>,
    trace: TraceContext,
    decide: F,
    answer: Option<T>,
    reply: oneshot::Sender<Result<T, Undecided>>,
}

impl<W, T: Send, R: Emits, F: FnMut(&mut W) -> (T, R) + Send> Command<W> for Asked<T, F> {
    fn touched(&self) -> &Touched {
        &self.touched
    }

    fn cause(&self) -> Option<Uuid> {
        self.cause
    }

    fn trace(&self) -> TraceContext {
        self.trace.clone()
    }

    fn decide(&mut self, known: &mut W) -> Result<Vec<Draft>, Fault> {
        let (answer, emitted) = (self.decide)(known);
        self.answer = Some(answer);
        emitted.into_drafts()
    }

    fn reply(self: Box<Self>, outcome: Result<(), Undecided>) {
        let Self { answer, reply, .. } = *self;
        let nothing = || Undecided::Broken("the decision gave no answer".into());
        // Whoever asked may have hung up; what was decided is committed all the same.
        let _ = reply.send(outcome.and_then(|()| answer.ok_or_else(nothing)));
    }
}

async fn work<W: WorkingSet>(db: Db, mut waiting: mpsc::Receiver<Box<dyn Command<W>>>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut pace = Pace::default();
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        pace.wait().await;
        while batch.len() < BATCH
            && let Ok(command) = waiting.try_recv()
        {
            batch.push(command);
        }
        take(&db, std::mem::take(&mut batch)).await;
    }
}

/// Commits the batch, or, when it fails for a reason of its own, each decision by itself.
async fn take<W: WorkingSet>(db: &Db, mut batch: Vec<Box<dyn Command<W>>>) {
    match commit(db, &mut batch).await {
        Err(Trouble::Broken(_) | Trouble::Conflict(_)) if batch.len() > 1 => {
            for command in batch {
                let mut alone = vec![command];
                let outcome = commit(db, &mut alone).await;
                answer(alone, outcome);
            }
        }
        outcome => {
            let outcome = match reach("decisions.unanswered").await {
                Ok(()) => outcome,
                Err(cut) => Err(Trouble::Unavailable(cut.into())),
            };
            answer(batch, outcome);
        }
    }
}

fn answer<W>(batch: Vec<Box<dyn Command<W>>>, outcome: Result<Vec<Verdict>, Trouble>) {
    match outcome {
        Ok(verdicts) => {
            for (command, verdict) in batch.into_iter().zip(verdicts) {
                command.reply(match verdict {
                    Verdict::Buried(fault) => Err(Undecided::Broken(fault.to_string())),
                    _ => Ok(()),
                });
            }
        }
        Err(trouble) => {
            tracing::warn!(error = %trouble, decisions = batch.len(), "a batch of decisions was not committed");
            let undecided = match trouble {
                Trouble::Broken(reason) => Undecided::Broken(reason),
                other => Undecided::Unavailable(other.to_string()),
            };
            batch
                .into_iter()
                .for_each(|command| command.reply(Err(undecided.clone())));
        }
    }
}

async fn commit<W: WorkingSet>(db: &Db, batch: &mut [Box<dyn Command<W>>]) -> Result<Vec<Verdict>, Trouble> {
    let touched: Vec<Touched> = batch.iter().map(|command| command.touched().clone()).collect();
    let origins: Vec<_> = batch.iter().map(|command| (command.cause(), command.trace())).collect();
    let mut decides: Vec<_> = batch
        .iter_mut()
        .map(|command| move |known: &mut W| command.decide(known))
        .collect();
    let mut jobs: Vec<Job<'_, W>> = decides
        .iter_mut()
        .zip(&touched)
        .zip(origins)
        .map(|((decide, touched), (cause, trace))| Job {
            touched,
            heard: None,
            cause,
            trace,
            decide: Some(decide),
        })
        .collect();
    unit::commit(db, "", &mut jobs).await
}
