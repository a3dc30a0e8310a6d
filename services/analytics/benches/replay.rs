//! What the replay of a long history takes while orders arrive: `cargo bench -p analytics --bench replay -- --orders 100000`.
//!
//! The history is made, not lived: whole chains of events, as the six services tell them, are put into five real
//! outboxes in their order, and real relays publish them into a private broker. The service is the real program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use analytics::reactions::reactions;
use clap::Parser;
use events::{Draft, EventType, Owner, Subject};
use messaging::provision::{self, Hears, Settings};
use messaging::relay::{Kind, Relay};
use messaging::{Db, Decisions, Journal, Touched, Tx, WorkingSet, outbox};
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use sqlx::{PgPool, postgres::PgPoolOptions};
use support::{Ending, Order, Told, story};
use testbed::{Durability, Nats, Place, Postgres, free_port};
use tokio_util::sync::CancellationToken;

/// Orders whose events share a transaction of their producers.
const CHUNK: usize = 200;
/// How many events may wait in an outbox while the history is made.
const BACKLOG: i64 = 5_000;

#[derive(Debug, Parser)]
struct Options {
    /// How many orders have been placed when the replay begins.
    #[arg(long, default_value_t = 10_000)]
    orders: usize,
    /// How many are placed each second while it runs.
    #[arg(long, default_value_t = 20)]
    arriving: usize,
    /// What cargo says to every benchmark.
    #[arg(long)]
    bench: bool,
}

/// A producer knows nothing; it only tells.
struct Nothing;

impl WorkingSet for Nothing {
    async fn load(_: &mut Tx, _: &Touched) -> sqlx::Result<Self> {
        Ok(Self)
    }

    async fn save(self, _: &mut Tx, _: &Journal) -> sqlx::Result<()> {
        Ok(())
    }
}

/// The five outboxes and their relays.
struct Producers {
    types: BTreeMap<String, EventType>,
    each: BTreeMap<&'static str, (PgPool, Decisions<Nothing>)>,
}

impl Producers {
    async fn start(postgres: &Postgres, nats: &Nats) -> Self {
        let none = Migrator::with_migrations(Vec::new());
        let core = messaging::migrations(none);
        let jetstream = jetstream(nats).await;
        let mut each = BTreeMap::new();
        for owner in Owner::ALL {
            let pool = database(postgres, owner.name()).await;
            core.run(&pool).await.unwrap();
            let db = Db::new(pool.clone());
            tokio::spawn(Relay::new(db.clone(), jetstream.clone(), owner, Kind::Polling).run(CancellationToken::new()));
            each.insert(owner.name(), (pool, Decisions::start(db)));
        }
        let reactions = reactions();
        let types = reactions
            .wiring()
            .map(|(heard, _)| (heard.to_string(), heard))
            .collect();
        Self { types, each }
    }

    /// Tells these stories, each producer its part of all of them, and returns how many events that were.
    async fn tell(&self, stories: Vec<Vec<Told>>) -> u64 {
        let mut parts: BTreeMap<&'static str, Vec<Draft>> = BTreeMap::new();
        for told in stories.into_iter().flatten() {
            let event_type = self.types[&told.envelope.event_type];
            let draft = Draft {
                event_type,
                subject: Subject::Order(told.envelope.order_id().unwrap()),
                payload: String::from_utf8(told.payload).unwrap(),
                cause: None,
                is_twin: false,
            };
            parts.entry(event_type.owner.name()).or_default().push(draft);
        }
        let mut events = 0;
        for (owner, drafts) in parts {
            events += drafts.len() as u64;
            let tell = move |_: &mut Nothing| ((), drafts.clone());
            self.each[owner].1.decide(Touched::default(), tell).await.unwrap();
        }
        events
    }

    async fn room(&self) {
        for (pool, _) in self.each.values() {
            while outbox::backlog(pool).await.unwrap().depth > BACKLOG {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// The real service, killed with this process.
struct Analytics {
    process: Child,
    admin: String,
    pool: PgPool,
    http: reqwest::Client,
}

impl Drop for Analytics {
    fn drop(&mut self) {
        let _ = self.process.kill();
    }
}

impl Analytics {
    async fn start(postgres: &Postgres, nats: &Nats) -> Self {
        let pool = database(postgres, "shop_analytics").await;
        let (api, admin) = (free_port().unwrap(), free_port().unwrap());
        let process = Command::new(env!("CARGO_BIN_EXE_analytics"))
            .env(
                "DATABASE_URL",
                postgres.socket_url_as("shop_analytics", "shop_analytics"),
            )
            .env("NATS_URL", nats.url())
            .env("HTTP_ADDR", format!("127.0.0.1:{api}"))
            .env("ADMIN_ADDR", format!("127.0.0.1:{admin}"))
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let admin = format!("http://127.0.0.1:{admin}");
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        while !http
            .get(format!("{admin}/readyz"))
            .send()
            .await
            .is_ok_and(|ready| ready.status().is_success())
        {
            // Looked at again until it is ready.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self {
            process,
            admin,
            pool,
            http,
        }
    }

    async fn heard(&self) -> u64 {
        let heard: i64 = sqlx::query_scalar("select count(*) from inbox")
            .fetch_one(&self.pool)
            .await
            .unwrap();
        heard.unsigned_abs()
    }

    async fn until_heard(&self, events: u64) {
        let mut shown = Instant::now();
        loop {
            let heard = self.heard().await;
            if heard >= events {
                return;
            }
            if shown.elapsed() > Duration::from_secs(15) {
                println!("  {heard} of {events} events heard");
                shown = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What it holds in memory, in MiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .unwrap_or(0)
            / 1024
    }

    /// Replays, and returns the report and the most memory that was seen.
    async fn replay(&self) -> (Value, u64) {
        let url = format!("{}/admin/replay", self.admin);
        let asked = self.http.post(&url).json(&json!({})).send().await.unwrap();
        assert!(asked.status().is_success(), "{}", asked.text().await.unwrap());
        let (mut most, mut shown, mut phase) = (0, Instant::now(), Value::Null);
        loop {
            let report: Value = self.http.get(&url).send().await.unwrap().json().await.unwrap();
            most = most.max(self.memory());
            if report["phase"] == "done" || report["phase"] == "failed" {
                return (report, most);
            }
            if shown.elapsed() > Duration::from_secs(15) || report["phase"] != phase {
                println!("  {}: {} events", report["phase"], report["replayed"]);
                (shown, phase) = (Instant::now(), report["phase"].clone());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn histories(number: usize, from: usize) -> Vec<Vec<Told>> {
    let endings =
        [Ending::Completed; 7]
            .into_iter()
            .chain([Ending::PartlyReturned, Ending::OutOfStock, Ending::Declined]);
    let endings: Vec<Ending> = endings.collect();
    let order = |at: usize| Order {
        ending: endings[at % endings.len()],
        quantity: 1 + (at % 3) as i32,
        price: 690 + (at % 100) as i64,
        currency: "EUR",
        at: at as i64,
    };
    (from..from + number).map(|at| story(&order(at))).collect()
}

async fn database(postgres: &Postgres, name: &str) -> PgPool {
    postgres.create_database(name).await.unwrap();
    let url = postgres.socket_url_as(name, name);
    PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap()
}

async fn jetstream(nats: &Nats) -> async_nats::jetstream::Context {
    async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap())
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let place = || Place::temporary().with(Durability::Real);
    let (postgres, nats) = tokio::join!(Postgres::start(place()), Nats::start(place()));
    let (postgres, nats) = (postgres.unwrap(), nats.unwrap());
    let broker = jetstream(&nats).await;
    provision::streams(&broker, &Settings::default()).await.unwrap();
    provision::durables(&broker, &Hears::of(&reactions()), &Settings::default())
        .await
        .unwrap();
    let producers = Producers::start(&postgres, &nats).await;
    let analytics = Analytics::start(&postgres, &nats).await;

    println!("Making a history of {} orders.", options.orders);
    let (began, mut events, mut placed) = (Instant::now(), 0, 0);
    while placed < options.orders {
        let number = CHUNK.min(options.orders - placed);
        events += producers.tell(histories(number, placed)).await;
        placed += number;
        producers.room().await;
    }
    analytics.until_heard(events).await;
    println!(
        "{events} events told and heard in {:.1} s.",
        began.elapsed().as_secs_f64()
    );

    println!("Replaying them while {} orders arrive each second.", options.arriving);
    let (before, done) = (analytics.memory(), CancellationToken::new());
    let arriving = async {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        while done.run_until_cancelled(every.tick()).await.is_some() {
            events += producers.tell(histories(options.arriving, placed)).await;
            placed += options.arriving;
        }
    };
    let replaying = async {
        let began = Instant::now();
        let (report, memory) = analytics.replay().await;
        done.cancel();
        (report, memory, began.elapsed())
    };
    let ((report, memory, took), ()) = tokio::join!(replaying, arriving);
    analytics.until_heard(events).await;
    conclude(&analytics, &report, placed).await;
    let replayed = report["replayed"].as_u64().unwrap();
    println!(
        "{replayed} events replayed in {:.1} s, {:.0} a second, {placed} orders in the end; the consumer waited {} ms; \
         memory {before} MiB before, {memory} MiB at most",
        took.as_secs_f64(),
        replayed as f64 / took.as_secs_f64(),
        report["consumer_waited_ms"],
    );
}

/// Equal when they were exchanged, and right after whatever has arrived since.
async fn conclude(analytics: &Analytics, report: &Value, placed: usize) {
    assert_eq!(
        (&report["phase"], &report["exchanged"]),
        (&json!("done"), &json!(true)),
        "{report:#}"
    );
    for (name, table) in report["tables"].as_object().unwrap() {
        assert_eq!(table["differing"], 0, "{name}: {report:#}");
        println!("  {name}: equal");
    }
    let counted: i64 = sqlx::query_scalar("select count from counters where step = 'placed'")
        .fetch_one(&analytics.pool)
        .await
        .unwrap();
    assert_eq!(counted.unsigned_abs() as usize, placed, "every order is counted once");
}
