//! What came of a run, for people.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use sqlx::PgPool;
use uuid::Uuid;

use super::customers::Log;
use super::plan::Strike;
use crate::audit::{Line, Report, Scope, Verdict};
use crate::shop::{self, OPERATOR, Service, Shop};

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What went wrong, as planned.
    pub faults: Vec<Strike>,
    /// Starts that failed, and programs that ended without being told to: no breach, but worth a look.
    pub surprises: Vec<String>,
    /// What must never happen and did.
    pub breaches: Vec<String>,
    /// How long after everything was healed the last order came to its end.
    pub terminal_after: Duration,
    log: Log,
    states: BTreeMap<String, i64>,
    slowest: f64,
    redeliveries: i64,
    dead_letters: i64,
    audited: usize,
    mails: usize,
}

impl Outcome {
    /// Whether nothing happened that must not.
    pub fn is_sound(&self) -> bool {
        self.breaches.is_empty()
    }

    /// How many orders were accepted.
    pub fn accepted(&self) -> usize {
        self.log.client.accepted.len()
    }

    pub(super) fn seen(&mut self, log: Log) {
        self.breaches.extend(log.breaches.clone());
        self.log = log;
    }

    pub(super) fn judged(&mut self, report: &Report) {
        self.audited = report.count(Verdict::Kept);
        self.mails = report.figures.mails;
        if !report.is_sound() {
            self.breaches.extend(broken(report));
        }
    }

    /// Counts what the databases and the broker know.
    pub(super) async fn figures(&mut self, shop: &Shop) -> Result<()> {
        let order = pool(shop, Service::Order).await?;
        let states: Vec<(String, i64)> = sqlx::query_as("select state, count(*) from orders group by state")
            .fetch_all(&order)
            .await?;
        self.states = states.into_iter().collect();
        let slowest = "select coalesce(extract(epoch from max(t.occurred_at - o.created_at)), 0)::float8
                       from timeline t join orders o on o.id = t.order_id
                       where t.event_type in ('OrderCompleted', 'OrderCancelled')";
        self.slowest = sqlx::query_scalar(slowest).fetch_one(&order).await?;
        let jetstream = shop::jetstream(&shop.nats_url(OPERATOR)).await?;
        for service in Service::ALL {
            let pool = pool(shop, service).await?;
            let handled: i64 = sqlx::query_scalar("select count(*) from inbox")
                .fetch_one(&pool)
                .await?;
            self.dead_letters += sqlx::query_scalar::<_, i64>("select count(*) from dead_letters")
                .fetch_one(&pool)
                .await?;
            let mut delivered = 0;
            for stream in service.hears().subjects.keys() {
                let durable: async_nats::jetstream::consumer::PullConsumer =
                    jetstream.get_consumer_from_stream(service.name(), *stream).await?;
                delivered += durable.cached_info().delivered.consumer_sequence as i64;
            }
            self.redeliveries += (delivered - handled).max(0);
        }
        Ok(())
    }

    /// Figures, breaches and the verdict.
    pub fn text(&self) -> String {
        let mut text = String::from("faults\n");
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        self.faults
            .iter()
            .for_each(|strike| *kinds.entry(strike.fault.kind()).or_default() += 1);
        for (kind, count) in kinds {
            text += &format!("  {count:>5}  {kind}\n");
        }
        text += "answers\n";
        for (answer, count) in &self.log.answers {
            text += &format!("  {count:>5}  {answer}\n");
        }
        let states: Vec<_> = self
            .states
            .iter()
            .map(|(state, count)| format!("{count} {}", state.to_lowercase()))
            .collect();
        let Log {
            refused,
            repeats,
            replayed,
            cancellations,
            returns,
            ..
        } = &self.log;
        text += &format!(
            "orders        {} accepted ({}), {refused} refused for want of stock\n\
             customers     {repeats} requests repeated, {replayed} answers replayed, {cancellations} cancellations and {returns} returns accepted\n\
             messages      {} redeliveries recognised, {} dead letters, {} mails\n\
             slowest       {:.1} s from acceptance to its end\n\
             terminal      all {:.1} s after everything was healed\n\
             audit         {} invariants hold\n",
            self.accepted(),
            states.join(", "),
            self.redeliveries,
            self.dead_letters,
            self.mails,
            self.slowest,
            self.terminal_after.as_secs_f64(),
            self.audited,
        );
        for surprise in &self.surprises {
            text += &format!("surprise      {surprise}\n");
        }
        for breach in &self.breaches {
            text += &format!("BREACH        {breach}\n");
        }
        text + &self.verdict()
    }

    fn verdict(&self) -> String {
        let faults = self.faults.len();
        match self.breaches.len() {
            0 => format!("{faults} faults injected, 0 orders lost, 0 double effects, every order terminal."),
            breaches => format!("{faults} faults injected, {breaches} breaches."),
        }
    }
}

/// What a report finds broken, or at rest could not read.
pub(super) fn broken(report: &Report) -> impl Iterator<Item = String> {
    let at_rest = report.scope == Scope::Everything;
    let broken = move |line: &&Line| line.verdict == Verdict::Broken || (at_rest && line.verdict == Verdict::Unread);
    report.lines.iter().filter(broken).flat_map(|line| {
        let shown = line.shown().into_iter();
        shown.map(|breach| format!("{}: {breach}", line.invariant.name))
    })
}

/// Orders that have not come to their end.
pub(super) async fn unfinished(shop: &Shop) -> Result<Vec<(Uuid, String)>> {
    let open = sqlx::query_as("select id, state from orders where state not in ('COMPLETED', 'CANCELLED', 'REFUNDED')");
    Ok(open.fetch_all(&pool(shop, Service::Order).await?).await?)
}

async fn pool(shop: &Shop, service: Service) -> Result<PgPool> {
    Ok(sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .connect(&shop.database_url(service))
        .await?)
}
