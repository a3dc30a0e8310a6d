//! The consumer: whatever has arrived is one batch, and is acknowledged after its commit.
//!
//! A batch is a single event when the shop is quiet and grows under load, so latency stays low and
//! throughput high. Events of all streams a service hears meet in one queue.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, AckKind, Message, consumer::pull};
use bytes::Bytes;
use futures_util::{StreamExt, future};
use opentelemetry::KeyValue;
use telemetry::{Kind, Span, semconv};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::dead_letters::Letter;
use crate::reactions::Prepared;
use crate::unit::{self, Decide, Job, Touched, Verdict};
use crate::{Db, Envelope, Fault, Reactions, Trouble, WorkingSet, metrics, provision};

/// How many events share one transaction at most.
const BATCH: usize = 256;
/// How often a single event may fail for a reason of its own before it becomes a dead letter.
const ATTEMPTS: i64 = 5;
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
    let handling = Handling {
        db,
        reactions,
        failures: HashMap::new(),
    };
    tokio::join!(future::join_all(pulls), handling.run(arrived, &shutdown));
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
    /// How often each event has failed in this process for a reason of its own.
    failures: HashMap<Uuid, i64>,
}

/// A delivery with everything that can be known without the database.
struct Delivery<W> {
    message: Message,
    letter: Letter,
    prepared: Result<Prepared<W>, Fault>,
    span: Span,
}

impl<W: WorkingSet> Handling<W> {
    async fn run(mut self, mut arrived: mpsc::Receiver<Message>, shutdown: &CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(1..) = shutdown.run_until_cancelled(arrived.recv_many(&mut batch, BATCH)).await {
            let deliveries = batch.drain(..).map(|message| self.prepare(message)).collect();
            self.handle(deliveries).await;
        }
        arrived.close();
        while let Some(message) = arrived.recv().await {
            hand_back(message).await;
        }
    }

    fn prepare(&self, message: Message) -> Delivery<W> {
        let (letter, readable) = letter(&message);
        let span = process_span(self.reactions.service(), &message, &letter);
        let prepared = readable.and_then(|()| self.reactions.prepare(&letter.envelope, &letter.payload));
        Delivery {
            message,
            letter,
            prepared,
            span,
        }
    }

    /// Commits the batch, or, when it fails for a reason of its own, each event by itself.
    async fn handle(&mut self, mut batch: Vec<Delivery<W>>) {
        let started = Instant::now();
        match self.commit(&mut batch).await {
            Ok(verdicts) => self.acknowledge(batch, &verdicts, started).await,
            Err(reason) if batch.len() == 1 => {
                for delivery in batch {
                    self.retry_or_bury(delivery, &reason).await;
                }
            }
            Err(reason) => {
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

    /// Retries for as long as the database is away; that burns no attempt.
    async fn commit(&self, batch: &mut [Delivery<W>]) -> Result<Vec<Verdict>, String> {
        let mut failures = 0;
        loop {
            match self.commit_once(batch).await {
                Ok(verdicts) => return Ok(verdicts),
                Err(trouble @ (Trouble::Broken(_) | Trouble::Conflict(_))) => return Err(trouble.to_string()),
                Err(Trouble::Unavailable(error)) => {
                    tracing::warn!(%error, events = batch.len(), "cannot handle events now, still trying");
                }
            }
            self.ask_for_patience(batch).await;
            failures += 1;
            tokio::time::sleep(backoff(50, failures)).await;
        }
    }

    async fn commit_once(&self, batch: &mut [Delivery<W>]) -> Result<Vec<Verdict>, Trouble> {
        let nothing = Touched::default();
        let mut decides: Vec<Box<Decide<'_, W>>> = Vec::new();
        let mut about = Vec::with_capacity(batch.len());
        for Delivery {
            letter, prepared, span, ..
        } in batch.iter_mut()
        {
            match prepared {
                Ok(Prepared { touched, react }) => {
                    about.push((&*letter, &*touched, span.context()));
                    decides.push(Box::new(|known| react(known)));
                }
                Err(fault) => {
                    about.push((&*letter, &nothing, span.context()));
                    decides.push(Box::new(|_| Err(fault.clone())));
                }
            }
        }
        let jobs = decides.iter_mut().zip(about);
        let mut jobs: Vec<Job<'_, W>> = jobs
            .map(|(decide, (letter, touched, trace))| Job {
                touched,
                heard: Some(letter),
                cause: None,
                trace,
                decide,
            })
            .collect();
        unit::commit(&self.db, self.reactions.service(), &mut jobs).await
    }

    /// Resets the broker's clock, so that it does not deliver again what is still being tried.
    async fn ask_for_patience(&self, batch: &[Delivery<W>]) {
        let asked = batch
            .iter()
            .map(|delivery| delivery.message.ack_with(AckKind::Progress));
        future::join_all(asked).await;
    }

    async fn acknowledge(&mut self, batch: Vec<Delivery<W>>, verdicts: &[Verdict], started: Instant) {
        for (delivery, verdict) in batch.into_iter().zip(verdicts) {
            self.failures.remove(&delivery.letter.envelope.event_id);
            let letter = &delivery.letter;
            match verdict {
                Verdict::Buried(fault) => {
                    delivery.span.fail("dead_letter");
                    tracing::error!(
                        event_id = %letter.envelope.event_id, event_type = letter.envelope.event_type,
                        trace_id = letter.envelope.trace.trace_id(), reason = %fault, "an event became a dead letter"
                    );
                }
                Verdict::AlreadyDone => delivery.span.set(KeyValue::new("shop.inbox.duplicate", true)),
                Verdict::Done | Verdict::Parked => {}
            }
            metrics::messaging().processed(self.reactions.service(), letter, verdict, started.elapsed());
            if let Err(error) = delivery.message.ack().await {
                tracing::debug!(%error, "an acknowledgement was lost, the inbox will recognise the redelivery");
            }
        }
    }

    /// A failure that is the event's own: a delayed retry, or the dead letters after the last one.
    async fn retry_or_bury(&mut self, mut delivery: Delivery<W>, reason: &str) {
        let attempts = self.failures.entry(delivery.letter.envelope.event_id).or_insert(0);
        *attempts += 1;
        delivery.letter.attempts = *attempts;
        let unburied = delivery.prepared.is_err();
        if *attempts < ATTEMPTS || unburied {
            delivery.span.fail("will_retry");
            let pause = backoff(100, *attempts as u32);
            tracing::warn!(event_id = %delivery.letter.envelope.event_id, reason, attempts, "an event failed, will retry");
            // Never a bare NAK: it would be delivered again at once, and again.
            let _ = delivery.message.ack_with(AckKind::Nak(Some(pause))).await;
            return;
        }
        delivery.prepared = Err(Fault::new(reason));
        Box::pin(self.handle(vec![delivery])).await;
    }
}

/// Exponential with full jitter.
fn backoff(base_ms: u64, failures: u32) -> Duration {
    let ceiling = base_ms
        .saturating_mul(1 << failures.min(16))
        .min(LONGEST_PAUSE.as_millis() as u64);
    Duration::from_millis(fastrand::u64(0..=ceiling))
}

/// What is kept of a delivery should it have to be buried, and whether its envelope can be believed.
fn letter(message: &Message) -> (Letter, Result<(), Fault>) {
    let info = message.info();
    let (stream, sequence, delivered) = match &info {
        Ok(info) => (info.stream.to_owned(), info.stream_sequence, info.delivered),
        Err(_) => (String::new(), 0, 1),
    };
    let headers: BTreeMap<String, String> = message
        .headers
        .iter()
        .flat_map(|headers| headers.iter())
        .filter(|(name, _)| !name.to_string().starts_with("Nats-Batch"))
        .map(|(name, values)| {
            (
                name.to_string(),
                values.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            )
        })
        .collect();
    let stand_in = |believed| Envelope::stand_in(believed, &message.subject, &format!("{stream}/{sequence}"));
    let (envelope, readable) = match Envelope::from_headers(message.headers.as_ref()) {
        Ok(envelope) if envelope.nats_subject() == message.subject.as_str() => (envelope, Ok(())),
        Ok(forged) => {
            let reason = format!("{} came on the subject {}", forged.event_type, message.subject);
            (stand_in(None), Err(Fault::new(reason)))
        }
        Err(reason) => (stand_in(message.headers.as_ref()), Err(Fault::new(reason))),
    };
    let letter = Letter {
        envelope,
        stream,
        stream_sequence: sequence as i64,
        attempts: delivered,
        headers,
        payload: Bytes::clone(&message.payload),
    };
    (letter, readable)
}

/// A child of the producing span, which it also links; a redelivery is one more such span.
fn process_span(consumer: &'static str, message: &Message, letter: &Letter) -> Span {
    let envelope = &letter.envelope;
    let subject = message.subject.to_string();
    Span::start_linked(
        Kind::Consumer,
        format!("process {subject}"),
        &envelope.trace,
        &[&envelope.trace],
        || {
            vec![
                KeyValue::new(semconv::MESSAGING_SYSTEM, "nats"),
                KeyValue::new(semconv::MESSAGING_OPERATION_NAME, "process"),
                KeyValue::new(semconv::MESSAGING_OPERATION_TYPE, "process"),
                KeyValue::new(semconv::MESSAGING_DESTINATION_NAME, subject),
                KeyValue::new(semconv::MESSAGING_CONSUMER_GROUP_NAME, consumer),
                KeyValue::new(semconv::MESSAGING_MESSAGE_ID, envelope.event_id.to_string()),
                KeyValue::new(semconv::MESSAGING_CONVERSATION_ID, envelope.subject.clone()),
                KeyValue::new(semconv::CLOUDEVENTS_EVENT_TYPE, envelope.event_type.clone()),
                KeyValue::new(semconv::MESSAGING_DELIVERY_COUNT, letter.attempts),
            ]
        },
    )
}
