//! Both relays side by side: `cargo run --release -p messaging --example relay_bench [rounds]`.
//!
//! Each round starts a PostgreSQL that syncs and a broker that syncs for either relay, and one without
//! any: what the writers cost by themselves is taken off. The medians of the rounds are printed.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer::pull};
use events::{InventoryReleased, Owner};
use futures_util::StreamExt;
use messaging::provision::{self, Settings};
use messaging::relay::{Kind, Relay, Standing};
use messaging::{Db, Decisions, Journal, Touched, Tx, WorkingSet};
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use testbed::{Durability, Nats, Place, Postgres};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const KINDS: [Option<Kind>; 3] = [None, Some(Kind::Polling), Some(Kind::Cdc)];
const SLOW: usize = 300;
const SLOW_EVERY: Duration = Duration::from_millis(20);
const WRITERS: usize = 8;
const EACH: usize = 500;
const BACKLOG: i32 = 20_000;
const IDLE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() {
    let rounds = std::env::args().nth(1).map_or(3, |rounds| rounds.parse().unwrap());
    let mut figures = KINDS.map(|_| Vec::new());
    for round in 1..=rounds {
        for (kind, figures) in KINDS.into_iter().zip(&mut figures) {
            let name = kind.map_or_else(|| "no relay".to_owned(), |kind| kind.to_string());
            eprintln!("round {round} of {rounds}: {name}");
            figures.push(measure(kind).await);
        }
    }
    let [none, polling, cdc] = figures.map(|rounds| median(&rounds));
    println!("{:<44}{:>12}{:>12}{:>14}", "", "polling", "cdc", "cdc/polling");
    for (index, (name, own)) in Figures::NAMES.iter().enumerate() {
        let writers = if *own { none.0[index] } else { 0.0 };
        let (polling, cdc) = (polling.0[index] - writers, cdc.0[index] - writers);
        println!("{name:<44}{polling:>12.3}{cdc:>12.3}{:>14.2}", cdc / polling);
    }
}

/// Everything that is measured, in the order of `NAMES`.
struct Figures([f64; 11]);

impl Figures {
    /// With whether the writers' own share is taken off.
    const NAMES: [(&str, bool); 11] = [
        ("commit to stream, p50, ms", false),
        ("commit to stream, p99, ms", false),
        ("one event at a time: database CPU, ms/event", true),
        ("one event at a time: log, bytes/event", true),
        ("one event at a time: transactions/event", true),
        ("8 writers: events/s", false),
        ("8 writers: database CPU, ms/event", true),
        ("8 writers: transactions/event", true),
        ("backlog: events/s", false),
        ("idle: transactions/s", true),
        ("idle: database CPU, ms/s", true),
    ];
}

fn median(rounds: &[Figures]) -> Figures {
    Figures(std::array::from_fn(|index| {
        let mut values: Vec<f64> = rounds.iter().map(|figures| figures.0[index]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }))
}

async fn measure(kind: Option<Kind>) -> Figures {
    let bed = Bed::start(kind).await;
    // Caches, plans and connections are warm.
    bed.write(WRITERS, 50).await;

    let meter = bed.meter().await;
    let (p50, p99) = bed.latency().await;
    let slow = bed.meter().await.since(&meter);

    let meter = bed.meter().await;
    let started = Instant::now();
    bed.write(WRITERS, EACH).await;
    let busy_seconds = started.elapsed().as_secs_f64();
    let busy = bed.meter().await.since(&meter);

    let started = Instant::now();
    bed.backlog().await;
    let backlog_seconds = started.elapsed().as_secs_f64();

    let meter = bed.meter().await;
    // What is measured is this time.
    tokio::time::sleep(IDLE).await;
    let idle = bed.meter().await.since(&meter);
    let (slow_events, events, seconds) = (SLOW as f64, (WRITERS * EACH) as f64, IDLE.as_secs_f64());
    Figures([
        p50,
        p99,
        slow.cpu_ms / slow_events,
        slow.log_bytes / slow_events,
        slow.transactions / slow_events,
        events / busy_seconds,
        busy.cpu_ms / events,
        busy.transactions / events,
        f64::from(BACKLOG) / backlog_seconds,
        idle.transactions / seconds,
        idle.cpu_ms / seconds,
    ])
}

struct Bed {
    cluster: Postgres,
    _broker: Nats,
    pool: PgPool,
    jetstream: jetstream::Context,
    decisions: Decisions<Nothing>,
    relay: Option<JoinHandle<()>>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(relay) = &self.relay {
            relay.abort();
        }
    }
}

impl Bed {
    async fn start(kind: Option<Kind>) -> Self {
        let place = || Place::temporary().with(Durability::Real);
        let (cluster, broker) = tokio::try_join!(Postgres::start(place()), Nats::start(place())).unwrap();
        cluster.create_database("shop").await.unwrap();
        let pool = PgPoolOptions::new().connect(&cluster.url("shop")).await.unwrap();
        messaging::migrations(Migrator::with_migrations(Vec::new()))
            .run(&pool)
            .await
            .unwrap();
        let jetstream = jetstream::new(async_nats::connect(broker.url()).await.unwrap());
        provision::streams(&jetstream, &Settings::default()).await.unwrap();
        let db = Db::new(pool.clone());
        let mut running = None;
        if let Some(kind) = kind {
            let relay = Relay::new(db.clone(), jetstream.clone(), Owner::Inventory, kind);
            let mut standing = relay.standing();
            running = Some(tokio::spawn(relay.run(CancellationToken::new())));
            if kind == Kind::Cdc {
                standing
                    .wait_for(|standing| *standing == Standing::Following)
                    .await
                    .unwrap();
            }
        }
        Self {
            cluster,
            _broker: broker,
            pool,
            jetstream,
            decisions: Decisions::start(db),
            relay: running,
        }
    }

    /// One event at a time: the time from the answer of the commit to the arrival at somebody who hears the stream.
    async fn latency(&self) -> (f64, f64) {
        let stream = self.jetstream.get_stream("INVENTORY").await.unwrap();
        let config = pull::OrderedConfig {
            deliver_policy: jetstream::consumer::DeliverPolicy::New,
            ..pull::OrderedConfig::default()
        };
        let mut heard = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
        let mut waited = Vec::new();
        for _ in 0..SLOW {
            tell(&self.decisions).await;
            let committed = Instant::now();
            if self.relay.is_some() {
                heard.next().await.unwrap().unwrap();
                waited.push(committed.elapsed().as_secs_f64() * 1_000.0);
            }
            tokio::time::sleep(SLOW_EVERY.saturating_sub(committed.elapsed())).await;
        }
        self.all_published().await;
        waited.sort_by(f64::total_cmp);
        let at = |share: usize| waited.get(waited.len() * share / 100).copied().unwrap_or_default();
        (at(50), at(99))
    }

    /// So many clients, each of which waits for the answer before it goes on.
    async fn write(&self, writers: usize, each: usize) {
        let mut tasks = JoinSet::new();
        for _ in 0..writers {
            let decisions = self.decisions.clone();
            tasks.spawn(async move {
                for _ in 0..each {
                    tell(&decisions).await;
                }
            });
        }
        tasks.join_all().await;
        self.all_published().await;
    }

    /// Many rows at once, about 200 subjects, as `outbox::append` writes them.
    async fn backlog(&self) {
        let insert = "
            insert into outbox (lane, event_id, event_type, nats_subject, subject, sequence, correlation_id, payload)
            select n % 200 % 16, gen_random_uuid(), 'shop.inventory.InventoryReleased.v1',
                   'shop.inventory.InventoryReleased', 'backlog-' || n % 200, 1 + n / 200, '', $2
            from generate_series(0, $1 - 1) n";
        let payload = format!(r#"{{"cause":"{}"}}"#, "x".repeat(400));
        sqlx::query(insert)
            .bind(BACKLOG)
            .bind(payload)
            .execute(&self.pool)
            .await
            .unwrap();
        self.all_published().await;
    }

    async fn all_published(&self) {
        let empty = "select not exists (select from outbox)";
        while self.relay.is_some()
            && !sqlx::query_scalar::<_, bool>(empty)
                .fetch_one(&self.pool)
                .await
                .unwrap()
        {
            // So rarely that it costs the database next to nothing.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn meter(&self) -> Meter {
        // Statistics of other sessions arrive with a delay of up to a second.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let asked = "select (pg_current_wal_insert_lsn() - '0/0')::float8,
                            (select (xact_commit + xact_rollback)::float8 from pg_stat_database
                             where datname = current_database())";
        let (log_bytes, transactions) = sqlx::query_as(asked).fetch_one(&self.pool).await.unwrap();
        Meter {
            cpu_ms: cpu_ms(self.cluster.pid().unwrap()),
            log_bytes,
            transactions,
        }
    }
}

async fn tell(decisions: &Decisions<Nothing>) {
    let order_id = Uuid::now_v7();
    let event = InventoryReleased {
        order_id,
        reservation_id: None,
        cause: "bench".into(),
    };
    let decide = move |_: &mut Nothing| ((), event.clone());
    decisions.decide(Touched::order(order_id), decide).await.unwrap();
}

/// What the database has spent so far.
struct Meter {
    cpu_ms: f64,
    log_bytes: f64,
    transactions: f64,
}

impl Meter {
    fn since(&self, before: &Self) -> Self {
        Self {
            cpu_ms: self.cpu_ms - before.cpu_ms,
            log_bytes: self.log_bytes - before.log_bytes,
            transactions: self.transactions - before.transactions,
        }
    }
}

/// Of the server, its sessions, and those that have ended.
fn cpu_ms(server: u32) -> f64 {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let pid: u32 = stat.split(' ').next().unwrap().parse().unwrap();
        // Behind the name, which may contain anything: state, parent, ...; then, from the eleventh on, the times.
        let fields: Vec<u64> = stat[stat.rfind(')').unwrap()..]
            .split(' ')
            .map(|field| field.parse().unwrap_or_default())
            .collect();
        if pid == server {
            ticks += fields[12..=15].iter().sum::<u64>();
        } else if fields[2] == u64::from(server) {
            ticks += fields[12] + fields[13];
        }
    }
    // A tick is a hundredth of a second on every Linux there is.
    ticks as f64 * 10.0
}

/// Decides without knowing anything.
struct Nothing;

impl WorkingSet for Nothing {
    async fn load(_tx: &mut Tx, _touched: &Touched) -> sqlx::Result<Self> {
        Ok(Self)
    }

    async fn save(self, _tx: &mut Tx, _journal: &Journal) -> sqlx::Result<()> {
        Ok(())
    }
}
