//! Rebuilding tables: read, compare, exchange.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::Message;
use chrono::TimeDelta;
use opentelemetry::KeyValue;
use telemetry::{Kind, Span, TraceContext};
use uuid::Uuid;

use super::orders::Wish;
use super::read::Streams;
use super::report::{Phase, Table as TableReport, Watch};
use super::shadow::Shadow;
use super::{Plan, Source};
use crate::dead_letters::Letter;
use crate::heard::Heard;
use crate::{Db, Envelope, Fault, Trouble, WorkingSet};

/// How many events share a transaction.
const BATCH: usize = 1_024;
/// How many events of a batch its span points at.
const LINKS: usize = 32;
/// Of how many events it is remembered that they were replayed last.
const RECENT: usize = 4_096;
/// How many differing rows of a table are told, and how many orders of a period are looked at once more.
const SHOWN: usize = 20;
const DOUBTED: i64 = 1_000;
/// Sums of a period that are told, of each table.
const SUMS: i64 = 500;
/// How long the live service may be behind.
const WAIT: Duration = Duration::from_secs(60);
/// How long it waits for us at most, before it may go on and we try again.
const SETTLE: Duration = Duration::from_secs(20);
/// How often that is tried.
const ATTEMPTS: usize = 5;
/// How often a batch is tried while the database is away.
const TRIES: u64 = 50;
/// By how much the clocks of an order's id, of its database and of the broker may differ.
const SLACK: TimeDelta = TimeDelta::minutes(1);

/// What the live service has been caught up with.
enum Settled {
    Yes,
    /// It takes too long to make it wait.
    NotYet,
}

/// A replay under way.
struct Rebuild<'a, W> {
    source: &'a Source<W>,
    watch: &'a Watch,
    shadow: Shadow,
    streams: Streams,
    span: Span,
    recent: VecDeque<Uuid>,
}

impl<W: WorkingSet + Default + Sync> Source<W> {
    /// Builds the tables once more; of a period, only its orders.
    pub(super) async fn rebuild(&self, plan: &Plan, watch: &Watch, asked: &TraceContext) -> Result<()> {
        let name = format!("replay {}", self.hears.service);
        let span = Span::start_linked(Kind::Internal, name, &TraceContext::NONE, &[asked], Vec::new);
        let since = plan.since.map(|since| since - SLACK);
        let shadow = Shadow::make(&self.db, self.hears.service, &self.projection).await?;
        let streams = Streams::open(&self.jetstream, &self.hears, since, watch).await?;
        let mut rebuild = Rebuild {
            source: self,
            watch,
            shadow,
            streams,
            span,
            recent: VecDeque::with_capacity(RECENT),
        };
        match plan.range() {
            Some(range) => rebuild.period(plan, range).await,
            None => rebuild.everything(plan).await,
        }
    }
}

impl<W: WorkingSet + Default + Sync> Rebuild<'_, W> {
    async fn everything(&mut self, plan: &Plan) -> Result<()> {
        let forgetful = self.streams.truncated.join(", ");
        if !forgetful.is_empty() && !plan.accept_loss && !plan.dry_run {
            bail!("{forgetful} no longer hold their first events: what came of these would be gone (--accept-loss)");
        }
        for _ in 0..ATTEMPTS {
            self.watch.enter(Phase::Reading);
            while !self.streams.at_the_end() {
                let arrived = self.streams.next(BATCH).await?;
                self.hear(arrived).await?;
            }
            self.shadow.analyze().await?;
            self.watch.enter(Phase::Waiting);
            self.wait_for_the_live_service().await?;
            if let Settled::Yes = self.settle(plan).await? {
                return Ok(());
            }
        }
        bail!("so much arrives that the live service would have to wait too long")
    }

    async fn period(&mut self, plan: &Plan, range: (Uuid, Uuid)) -> Result<()> {
        self.watch.enter(Phase::Reading);
        while !self.streams.at_the_end() {
            let arrived = self.streams.next(BATCH).await?;
            let of_period = |message: &Message| {
                let order = subject(message).and_then(|subject| Uuid::parse_str(subject).ok());
                order.is_some_and(|order| (range.0..range.1).contains(&order))
            };
            self.hear(arrived.into_iter().filter(of_period).collect()).await?;
        }
        self.watch.enter(Phase::Comparing);
        let mut doubted = BTreeSet::new();
        for table in self.source.projection.tables {
            if !table.sums.is_empty() {
                let rows = self.shadow.rows(table, SUMS).await?;
                self.watch
                    .change(|report| report.tables.entry(table.name).or_default().rows = rows);
            }
            if table.by_order {
                let (_, differing) = self.shadow.differences(table, Some(range), DOUBTED).await?;
                doubted.extend(differing.iter().filter_map(|row| Uuid::parse_str(&row.key).ok()));
            }
        }
        // The shop went on meanwhile: what differs only because of that does not when it is looked at alone.
        let wish = Wish {
            since: plan.since.map(|since| since - SLACK),
            mend: plan.mend,
            accept_loss: plan.accept_loss,
        };
        self.source.recompute(doubted, wish, self.watch, &self.span).await
    }

    /// Commits the effect of these events beside the live ones.
    async fn hear(&mut self, arrived: Vec<Message>) -> Result<()> {
        if arrived.is_empty() {
            return Ok(());
        }
        let letters: Vec<_> = arrived.iter().map(Letter::delivered).collect();
        let producers: Vec<&TraceContext> = letters
            .iter()
            .map(|(letter, _)| &letter.envelope.trace)
            .take(LINKS)
            .collect();
        let events = KeyValue::new("messaging.batch.message_count", i64::try_from(letters.len())?);
        let span = Span::start_linked(
            Kind::Internal,
            "replay batch".into(),
            &self.span.context(),
            &producers,
            || vec![events],
        );
        let (batch, reactions) = (span.context(), &self.source.reactions);
        let heard = letters
            .into_iter()
            .map(|delivered| Heard::again(reactions, delivered, &batch));
        let mut heard: Vec<Heard<W>> = heard.collect();
        for one in &heard {
            self.recent.push_back(one.letter.envelope.event_id);
        }
        self.recent.drain(..self.recent.len().saturating_sub(RECENT));
        commit(&self.shadow.db, self.source.hears.service, &mut heard).await?;
        self.watch.change(|report| report.replayed += heard.len() as u64);
        Ok(())
    }

    async fn wait_for_the_live_service(&mut self) -> Result<()> {
        let deadline = Instant::now() + WAIT;
        let recent: Vec<Uuid> = self.recent.iter().copied().collect();
        while self.shadow.ahead(&recent).await? > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Makes the live service wait until both have heard the same, compares, and exchanges the tables.
    async fn settle(&mut self, plan: &Plan) -> Result<Settled> {
        self.watch.enter(Phase::Settling);
        let waiting = Instant::now();
        if let Err(error) = self.shadow.lock_the_live_inbox().await {
            tracing::info!(%error, "the live inbox is in use, trying again");
            self.shadow.unlock().await?;
            return Ok(Settled::NotYet);
        }
        let missing = self.shadow.missing().await?;
        let began_at = self.shadow.began_at;
        let (lost, late): (Vec<_>, Vec<_>) = missing.into_iter().partition(|(_, heard_at)| *heard_at < began_at);
        self.watch.change(|report| report.lost = lost.len() as u64);
        if !lost.is_empty() && !plan.accept_loss && !plan.dry_run {
            bail!(
                "{} events that were heard are no longer in the streams: what came of them would be gone (--accept-loss)",
                lost.len()
            );
        }
        let late = late.into_iter().map(|(event, _)| event).collect();
        let mut held = Vec::new();
        let caught_up = tokio::time::timeout(SETTLE, self.catch_up_with(late, &mut held)).await;
        if caught_up.map_or(Ok(false), |outcome| outcome.map(|()| true))? {
            self.compare(plan).await?;
            self.watch
                .change(|report| report.consumer_waited_ms = waiting.elapsed().as_millis() as u64);
            return Ok(Settled::Yes);
        }
        self.shadow.unlock().await?;
        self.hear(held).await?;
        Ok(Settled::NotYet)
    }

    /// Replays what the live service has heard, and holds back what it has not: that is still to be delivered to it.
    async fn catch_up_with(&mut self, mut late: HashSet<Uuid>, held: &mut Vec<Message>) -> Result<()> {
        while !late.is_empty() {
            let arrived = self.streams.next(BATCH).await?;
            let (wanted, others) = arrived.into_iter().partition(|message| {
                let id = header(message, "ce-id").and_then(|id| Uuid::parse_str(id).ok());
                id.is_some_and(|id| late.remove(&id))
            });
            held.extend::<Vec<Message>>(others);
            self.hear(wanted).await?;
        }
        Ok(())
    }

    /// Both have heard the same events now, or as good as: the live service may be stuck with some.
    async fn compare(&mut self, plan: &Plan) -> Result<()> {
        self.watch.enter(Phase::Comparing);
        let recent: Vec<Uuid> = self.recent.iter().copied().collect();
        let ahead = self.shadow.ahead(&recent).await?;
        self.watch.change(|report| report.ahead = ahead.unsigned_abs());
        for table in self.source.projection.tables {
            let (differing, differences) = self.shadow.differences(table, None, SHOWN as i64).await?;
            let found = TableReport {
                differing,
                differences,
                rows: Vec::new(),
            };
            self.watch
                .change(|report| drop(report.tables.insert(table.name, found)));
        }
        if plan.dry_run {
            return Ok(self.shadow.unlock().await?);
        }
        self.watch.enter(Phase::Exchanging);
        self.shadow.exchange().await?;
        self.watch.change(|report| report.exchanged = true);
        Ok(())
    }
}

/// As the consumer does: what cannot be handled is buried alone, and a database that is away is waited for.
async fn commit<W: WorkingSet>(db: &Db, service: &str, heard: &mut [Heard<W>]) -> Result<()> {
    let mut tries = 0;
    loop {
        let trouble = match Heard::commit(db, service, heard.iter_mut()).await {
            Ok(_) => return Ok(()),
            Err(trouble) => trouble,
        };
        match trouble {
            Trouble::Unavailable(error) => {
                tries += 1;
                if tries > TRIES {
                    return Err(error).context("the database is away");
                }
                tokio::time::sleep(Duration::from_millis(20 * tries)).await;
            }
            broken => match heard {
                [alone] if alone.prepared.is_ok() => alone.prepared = Err(Fault::new(broken.to_string())),
                [_] => return Err(broken).context("an event can neither be handled nor buried"),
                several => {
                    for one in several.chunks_mut(1) {
                        Box::pin(commit(db, service, one)).await?;
                    }
                    return Ok(());
                }
            },
        }
    }
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str())
}

/// The order or the product that an event is about.
pub(super) fn subject(message: &Message) -> Option<&str> {
    header(message, "ce-subject")
}

/// When an order was placed, by its id, less what clocks may differ.
pub(super) fn placed_before(order: Uuid) -> Option<chrono::DateTime<chrono::Utc>> {
    let (seconds, nanos) = order.get_timestamp()?.to_unix();
    let placed = chrono::DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)?;
    Some(placed - SLACK)
}

/// Whether nothing is known that keeps an event from being believed.
pub(super) fn believed(message: &Message) -> Option<Envelope> {
    let (letter, readable) = Letter::delivered(message);
    readable.is_ok().then_some(letter.envelope)
}
