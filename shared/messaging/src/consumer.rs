//! The consumer: whatever has arrived is one batch, and is acknowledged after its commit.
//!
//! A batch is a single event when the shop is quiet and grows under load, so latency stays low and
//! throughput high. Events of all streams a service hears meet in one queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, AckKind, Message, consumer::pull};
use futures_util::{StreamExt, future};
use opentelemetry::KeyValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::dead_letters::{self, Letter};
use crate::fault_points::reach;
use crate::heard::Heard;
use crate::pace::Pace;
use crate::unit::Verdict;
use crate::{Db, Fault, Reactions, Trouble, WorkingSet, metrics, provision};

/// How many events share one transaction at most.
const BATCH: usize = 256;
/// How often a single event may fail for a reason of its own before it becomes a dead letter.
const ATTEMPTS: i64 = 5;
/// How often an event is delivered before it is suspected of killing whoever handles it.
const TRUSTED: i64 = 2;
/// How many events are held, and kept from being delivered again, while the database is away.
const HELD: usize = 4_096;
/// After how many failures pauses no longer grow while the database is away: less than two seconds, far below any
/// time to acknowledge.
const SHORT_PAUSES: u32 = 5;
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long after shutdown a message may be on its way to us.
const LAST_CALL: Duration = Duration::from_millis(50);
/// When another replica gets what this one hands back: once its own pulls are surely gone.
const HANDED_BACK: Duration = Duration::from_millis(200);

/// Hears and handles events until shutdown; the batch under way is finished first.
pub async fn consume<W: WorkingSet>(
    db: Db,
    jetstream: jetstream::Context,
    reactions: Reactions<W>,
    shutdown: CancellationToken,
) {
    let reactions = Arc::new(reactions);
    let (queue, arrived) = mpsc::channel(2 * BATCH);
    let pulls = provision::streams_heard(&reactions).into_iter().map(|stream| {
        pull_forever(
            jetstream.clone(),
            stream,
            reactions.service(),
            queue.clone(),
            shutdown.clone(),
        )
    });
    let pulls: Vec<_> = pulls.collect();
    drop(queue);
    let service = reactions.service();
    let heard = reactions.wiring().map(|(event, _)| event.to_string()).collect();
    let deaths = dead_letters::bury_the_silent(db.clone(), jetstream, service, heard, shutdown.clone());
    let redrive = dead_letters::redrive(db.clone(), reactions.clone(), shutdown.clone());
    let handling = Handling {
        db,
        reactions,
        arrived,
        waiting: Vec::with_capacity(BATCH),
        suspects: Vec::new(),
        pace: Pace::default(),
        failures: HashMap::new(),
        shutdown,
    };
    tokio::join!(future::join_all(pulls), handling.run(), redrive, deaths);
}

/// Keeps one durable's messages coming; starts over after any error, such as a lost heartbeat.
async fn pull_forever(
    jetstream: jetstream::Context,
    stream: &'static str,
    durable: &'static str,
    queue: mpsc::Sender<Message>,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        if let Err(error) = pull(&jetstream, stream, durable, &queue, &shutdown).await {
            tracing::warn!(stream, error = format!("{error:#}"), "the pull ended, starting over");
        }
        let pause = tokio::time::sleep(Duration::from_millis(fastrand::u64(50..500)));
        shutdown.run_until_cancelled(pause).await;
    }
}

async fn pull(
    jetstream: &jetstream::Context,
    stream: &'static str,
    durable: &'static str,
    queue: &mpsc::Sender<Message>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let opened = open(jetstream, stream, durable);
    let Some(messages) = shutdown.run_until_cancelled(opened).await else {
        return Ok(());
    };
    let mut messages = messages?;
    while let Some(Some(message)) = shutdown.run_until_cancelled(messages.next()).await {
        if let Err(refused) = queue.send(message?).await {
            hand_back(refused.0).await;
        }
    }
    let mut on_its_way = messages.take(BATCH);
    while let Ok(Some(Ok(message))) = tokio::time::timeout(LAST_CALL, on_its_way.next()).await {
        hand_back(message).await;
    }
    Ok(())
}

async fn open(
    jetstream: &jetstream::Context,
    stream: &'static str,
    durable: &'static str,
) -> anyhow::Result<pull::Stream> {
    let consumer: jetstream::consumer::Consumer<pull::Config> =
        jetstream.get_consumer_from_stream(durable, stream).await?;
    let messages = consumer
        .stream()
        .max_messages_per_batch(BATCH)
        .expires(Duration::from_secs(30))
        .heartbeat(Duration::from_secs(5))
        .messages();
    Ok(messages.await?)
}

/// Lets somebody else have the message now, instead of when its time to be acknowledged has run out.
async fn hand_back(message: Message) {
    let _ = message.ack_with(AckKind::Nak(Some(HANDED_BACK))).await;
}

struct Handling<W> {
    db: Db,
    reactions: Arc<Reactions<W>>,
    arrived: mpsc::Receiver<Message>,
    /// What has arrived and is not begun.
    waiting: Vec<Message>,
    /// Of that, what was delivered suspiciously often.
    suspects: Vec<Message>,
    pace: Pace,
    /// How often each event has failed in this process for a reason of its own.
    failures: HashMap<Uuid, i64>,
    shutdown: CancellationToken,
}

/// What came of a batch.
enum Outcome {
    /// It is committed, with a verdict on each event.
    Committed(Vec<Verdict>),
    /// It cannot be, for a reason of its own.
    Failed(String),
    /// The database is away, and the process ends: somebody else will handle it.
    Left,
}

struct Delivery<W> {
    message: Message,
    heard: Heard<W>,
}

impl<W: WorkingSet> Handling<W> {
    async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        while let Some(true) = shutdown.run_until_cancelled(self.gather()).await {
            let next = self.waiting.len().min(BATCH);
            let (suspects, trusted): (Vec<_>, Vec<_>) = self.waiting.drain(..next).partition(is_suspect);
            self.suspects.extend(suspects);
            if !trusted.is_empty() {
                let deliveries = trusted.into_iter().map(|message| self.prepare(message)).collect();
                self.handle(deliveries).await;
            }
            // One of them may kill this process each time. Alone and at random, each of the others comes before it
            // in every second life, and is through long before the broker gives up.
            if !self.suspects.is_empty() {
                let suspect = self.suspects.swap_remove(fastrand::usize(..self.suspects.len()));
                let alone = vec![self.prepare(suspect)];
                self.handle(alone).await;
            }
        }
        self.arrived.close();
        for message in self.waiting.into_iter().chain(self.suspects) {
            hand_back(message).await;
        }
        while let Some(message) = self.arrived.recv().await {
            hand_back(message).await;
        }
    }

    /// Waits until there is something to do; false when there never will be.
    async fn gather(&mut self) -> bool {
        if self.waiting.is_empty() && self.suspects.is_empty() {
            if self.arrived.recv_many(&mut self.waiting, BATCH).await == 0 {
                return false;
            }
            self.pace.wait().await;
        }
        self.fetch(BATCH);
        true
    }

    /// Takes over what has arrived, so that so much waits at most.
    fn fetch(&mut self, at_most: usize) {
        while self.waiting.len() < at_most
            && let Ok(message) = self.arrived.try_recv()
        {
            self.waiting.push(message);
        }
    }

    fn prepare(&self, message: Message) -> Delivery<W> {
        Delivery {
            heard: Heard::of(&self.reactions, Letter::delivered(&message)),
            message,
        }
    }

    /// Commits the batch, or, when it fails for a reason of its own, each event by itself.
    async fn handle(&mut self, mut batch: Vec<Delivery<W>>) {
        let started = Instant::now();
        let _ = reach("consumer.heard").await;
        match self.commit(&mut batch).await {
            Outcome::Committed(verdicts) => self.acknowledge(batch, &verdicts, started).await,
            Outcome::Left => {
                for delivery in batch {
                    hand_back(delivery.message).await;
                }
            }
            Outcome::Failed(reason) if batch.len() == 1 => {
                for delivery in batch {
                    self.retry_or_bury(delivery, &reason).await;
                }
            }
            Outcome::Failed(reason) => {
                tracing::warn!(
                    reason,
                    events = batch.len(),
                    "a batch failed, handling its events one by one"
                );
                for delivery in batch {
                    Box::pin(self.handle(vec![delivery])).await;
                }
            }
        }
    }

    /// Retries for as long as the database is away, or until shutdown; that burns no attempt.
    async fn commit(&mut self, batch: &mut [Delivery<W>]) -> Outcome {
        let mut failures = 0;
        loop {
            let heard = batch.iter_mut().map(|delivery| &mut delivery.heard);
            match Heard::commit(&self.db, self.reactions.service(), heard).await {
                Ok(verdicts) => return Outcome::Committed(verdicts),
                Err(trouble @ (Trouble::Broken(_) | Trouble::Conflict(_))) => {
                    return Outcome::Failed(trouble.to_string());
                }
                Err(Trouble::Unavailable(error)) => {
                    tracing::warn!(%error, events = batch.len(), "cannot handle events now, still trying");
                }
            }
            if self.shutdown.is_cancelled() {
                return Outcome::Left;
            }
            self.ask_for_patience(batch).await;
            failures += 1;
            let pause = tokio::time::sleep(backoff(50, failures.min(SHORT_PAUSES)));
            self.shutdown.run_until_cancelled(pause).await;
        }
    }

    /// Resets the broker's clock for everything that is here, so that no delivery is counted while nobody can act.
    async fn ask_for_patience(&mut self, batch: &[Delivery<W>]) {
        self.fetch(HELD);
        let begun = batch.iter().map(|delivery| &delivery.message);
        let held = begun.chain(&self.waiting).chain(&self.suspects);
        let asked = held.map(|message| message.ack_with(AckKind::Progress));
        future::join_all(asked).await;
    }

    async fn acknowledge(&mut self, batch: Vec<Delivery<W>>, verdicts: &[Verdict], started: Instant) {
        let _ = reach("consumer.unacknowledged").await;
        for (delivery, verdict) in batch.into_iter().zip(verdicts) {
            let Heard { letter, span, .. } = &delivery.heard;
            self.failures.remove(&letter.envelope.event_id);
            match verdict {
                Verdict::Buried(fault) => {
                    span.fail("dead_letter");
                    tracing::error!(
                        event_id = %letter.envelope.event_id, event_type = letter.envelope.event_type,
                        trace_id = letter.envelope.trace.trace_id(), reason = %fault, "an event became a dead letter"
                    );
                }
                Verdict::AlreadyDone => span.set(KeyValue::new("shop.inbox.duplicate", true)),
                Verdict::Ignored => span.set(KeyValue::new("shop.ignored", true)),
                Verdict::Done | Verdict::Parked => {}
            }
            metrics::messaging().processed(self.reactions.service(), letter, verdict, started.elapsed());
            if let Err(error) = delivery.message.ack().await {
                tracing::debug!(%error, "an acknowledgement was lost, the inbox will recognise the redelivery");
            }
            let _ = reach("consumer.half-acknowledged").await;
        }
    }

    /// A failure that is the event's own: a delayed retry, or the dead letters after the last one.
    async fn retry_or_bury(&mut self, mut delivery: Delivery<W>, reason: &str) {
        let heard = &mut delivery.heard;
        let event_id = heard.letter.envelope.event_id;
        let attempts = self.failures.entry(event_id).or_insert(0);
        *attempts += 1;
        heard.letter.attempts = *attempts;
        let unburied = heard.prepared.is_err();
        if *attempts < ATTEMPTS || unburied {
            heard.span.fail("will_retry");
            let pause = backoff(100, *attempts as u32);
            tracing::warn!(%event_id, reason, attempts, "an event failed, will retry");
            // Never a bare NAK: it would be delivered again at once, and again.
            let _ = delivery.message.ack_with(AckKind::Nak(Some(pause))).await;
            return;
        }
        heard.prepared = Err(Fault::new(reason));
        Box::pin(self.handle(vec![delivery])).await;
    }
}

fn is_suspect(message: &Message) -> bool {
    message.info().is_ok_and(|info| info.delivered > TRUSTED)
}

/// Exponential with full jitter.
fn backoff(base_ms: u64, failures: u32) -> Duration {
    let ceiling = base_ms
        .saturating_mul(1 << failures.min(16))
        .min(LONGEST_PAUSE.as_millis() as u64);
    Duration::from_millis(fastrand::u64(0..=ceiling))
}
