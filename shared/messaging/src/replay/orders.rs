//! Recomputing single orders: what all their events amount to, compared with what is known of them, and corrected.
//!
//! An order is corrected in a unit of work like any other, which its consumer cannot overtake; it is left alone if
//! something was heard of it since it was compared, and compared again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use chrono::{DateTime, Utc};
use serde_json::Value;
use telemetry::{Kind, Span, TraceContext};
use uuid::Uuid;

use super::read::Streams;
use super::rebuild::{believed, placed_before, subject};
use super::report::{Difference, Phase, Table as TableReport, Watch};
use super::{Plan, Source, shadow};
use crate::{Decisions, Touched, WorkingSet};

/// How many events are looked at in one go.
const BATCH: usize = 1_024;
/// How often an order of which something new is heard is compared again.
const ROUNDS: usize = 20;
/// How long the live service may be behind.
const WAIT: Duration = Duration::from_secs(60);
/// How many differences are told.
const SHOWN: usize = 20;

/// How orders are to be recomputed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// None of them was placed before.
    pub(super) since: Option<DateTime<Utc>>,
    /// Whether they are corrected, or only compared.
    pub(super) mend: bool,
    /// Whether they may be corrected although events may be lost.
    pub(super) accept_loss: bool,
}

/// What is known of orders.
type Known = BTreeMap<Uuid, Option<Value>>;

/// Orders as all their events say.
struct Folded<W> {
    known: W,
    events: Vec<Uuid>,
}

impl<W: WorkingSet + Default + Sync> Source<W> {
    /// Compares one order with its events, and corrects it unless it is only to be compared.
    pub(super) async fn recompute_one(
        &self,
        order: Uuid,
        plan: &Plan,
        watch: &Watch,
        asked: &TraceContext,
    ) -> Result<()> {
        let name = format!("replay {}", self.hears.service);
        let span = Span::start_linked(Kind::Internal, name, &TraceContext::NONE, &[asked], Vec::new);
        let wish = Wish {
            since: placed_before(order),
            mend: !plan.dry_run,
            accept_loss: plan.accept_loss,
        };
        self.recompute(BTreeSet::from([order]), wish, watch, &span).await
    }

    /// The same for several.
    pub(super) async fn recompute(
        &self,
        mut orders: BTreeSet<Uuid>,
        wish: Wish,
        watch: &Watch,
        span: &Span,
    ) -> Result<()> {
        let decisions = Decisions::start(self.db.clone());
        let table = self.projection.tables.iter().find(|table| table.by_order);
        let table = table.context("no table has a row an order")?.name;
        watch.change(|report| {
            report.tables.insert(table, TableReport::default());
        });
        for _ in 0..ROUNDS {
            if orders.is_empty() {
                return Ok(());
            }
            watch.enter(Phase::Reading);
            let noted = self.known(&decisions, &orders).await?;
            let folded = self.fold(&orders, wish, watch, span).await?;
            self.wait_for_the_live_service(&folded.events).await?;
            let now = self.known(&decisions, &orders).await?;
            let (settled, moved): (BTreeSet<Uuid>, _) =
                orders.into_iter().partition(|order| noted[order] == now[order]);
            let differing: Known = settled
                .into_iter()
                .filter(|order| (self.projection.show)(&folded.known, *order) != now[order])
                .map(|order| (order, now[&order].clone()))
                .collect();
            orders = moved;
            if wish.mend && !differing.is_empty() {
                watch.enter(Phase::Mending);
                orders.extend(self.correct(&decisions, differing, folded.known, table, watch).await?);
            } else {
                self.tell(&differing, &folded.known, table, watch);
            }
        }
        bail!("{} orders change faster than they can be compared", orders.len())
    }

    /// What the live service knows of them now.
    async fn known(&self, decisions: &Decisions<W>, orders: &BTreeSet<Uuid>) -> Result<Known> {
        let (show, wanted) = (self.projection.show, orders.clone());
        let look = move |known: &mut W| (wanted.iter().map(|order| (*order, show(known, *order))).collect(), ());
        Ok(decisions.decide(touching(orders), look).await?)
    }

    /// Reads every event of these orders and lets it happen to what knows nothing.
    async fn fold(&self, orders: &BTreeSet<Uuid>, wish: Wish, watch: &Watch, span: &Span) -> Result<Folded<W>> {
        let discarded = self.discarded(orders).await?;
        let mut streams = Streams::open(&self.jetstream, &self.hears, wish.since, watch).await?;
        let forgetful = streams.truncated.join(", ");
        ensure!(
            forgetful.is_empty() || !wish.mend || wish.accept_loss,
            "{forgetful} may no longer hold all events of these orders: what came of these would be gone (--accept-loss)"
        );
        let mut folded = Folded {
            known: W::default(),
            events: Vec::new(),
        };
        while !streams.at_the_end() {
            for message in streams.next(BATCH).await? {
                let order = subject(&message).and_then(|subject| Uuid::parse_str(subject).ok());
                if !order.is_some_and(|order| orders.contains(&order)) {
                    continue;
                }
                let Some(envelope) = believed(&message) else { continue };
                // A delivery may be in a stream twice, and what was discarded never happened.
                if discarded.contains(&envelope.event_id) || folded.events.contains(&envelope.event_id) {
                    continue;
                }
                let links = [&envelope.trace];
                let _again = Span::start_linked(
                    Kind::Internal,
                    format!("replay {}", envelope.name()),
                    &span.context(),
                    &links,
                    Vec::new,
                );
                let reacted = self.reactions.react(&mut folded.known, &envelope, &message.payload);
                reacted.with_context(|| format!("{} {} cannot be handled", envelope.name(), envelope.event_id))?;
                folded.events.push(envelope.event_id);
                watch.change(|report| report.replayed += 1);
            }
        }
        Ok(folded)
    }

    /// Events of these orders that were given up for ever; one that waits for a decision must be decided about first.
    async fn discarded(&self, orders: &BTreeSet<Uuid>) -> Result<BTreeSet<Uuid>> {
        let subjects: Vec<String> = orders.iter().map(Uuid::to_string).collect();
        let letters = sqlx::query!(
            r#"
            select event_id, subject, closed_at is null as "open!" from dead_letters
            where consumer = $1 and subject = any($2) and (closed_at is null or state = 'discarded')
            "#,
            self.hears.service,
            &subjects,
        );
        let letters = letters.fetch_all(self.db.pool()).await?;
        if let Some(letter) = letters.iter().find(|letter| letter.open) {
            bail!("{} has an open dead letter, {}", letter.subject, letter.event_id);
        }
        Ok(letters.into_iter().map(|letter| letter.event_id).collect())
    }

    async fn wait_for_the_live_service(&self, events: &[Uuid]) -> Result<()> {
        let deadline = Instant::now() + WAIT;
        loop {
            let mut session = self.db.pool().acquire().await?;
            if shadow::ahead(&mut session, self.hears.service, events).await? == 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the live service is behind with events of these orders"
            );
            drop(session);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn tell(&self, differing: &Known, folded: &W, table: &'static str, watch: &Watch) {
        let differences = differing.iter().map(|(order, live)| Difference {
            key: order.to_string(),
            live: live.clone(),
            rebuilt: (self.projection.show)(folded, *order),
        });
        watch.change(|report| {
            let found: &mut TableReport = report.tables.entry(table).or_default();
            found.differing += differing.len() as u64;
            found.differences.extend(differences);
            found.differences.truncate(SHOWN);
        });
    }

    /// Makes the live service know what the events say, and returns the orders of which it has heard more meanwhile.
    async fn correct(
        &self,
        decisions: &Decisions<W>,
        differing: Known,
        folded: W,
        table: &'static str,
        watch: &Watch,
    ) -> Result<Vec<Uuid>> {
        let orders = differing.keys().copied().collect();
        let (show, take_over) = (self.projection.show, self.projection.take_over);
        let (folded, wanted) = (Arc::new(folded), differing.clone());
        let source = Arc::clone(&folded);
        let correct = move |known: &mut W| {
            let mut moved = Vec::new();
            for (order, noted) in &wanted {
                if show(known, *order) == *noted {
                    take_over(known, &source, *order);
                } else {
                    moved.push(*order);
                }
            }
            (moved, ())
        };
        let moved = decisions.decide(touching(&orders), correct).await?;
        let mut mended = differing;
        mended.retain(|order, _| !moved.contains(order));
        watch.change(|report| report.mended += mended.len() as u64);
        self.tell(&mended, &folded, table, watch);
        Ok(moved)
    }
}

fn touching(orders: &BTreeSet<Uuid>) -> Touched {
    Touched {
        orders: orders.clone(),
        ..Touched::default()
    }
}
