//! A service with nothing but the messaging core in it, and the broker and database that it needs.

mod ledger;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::consumer::{self, FromConsumer, pull};
use async_nats::{HeaderMap, Subscriber};
use chrono::Utc;
use events::{Event, Owner, PaymentDeclined};
use futures_util::{FutureExt, StreamExt};
use messaging::provision::{self, Hears, Settings};
use messaging::relay::{Kind, Relay, Standing};
use messaging::{Db, Decisions, Reactions};
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgExecutor, PgPool, Postgres, Transaction};
use testbed::{Nats, Place};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use ledger::{Ledger, reactions, repaired, see};

/// The tables of the messaging core and of the ledger.
pub(crate) static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| messaging::migrations(sqlx::migrate!("tests/migrations")));

/// A database and a broker, both provisioned.
pub(crate) struct World {
    pub(crate) pool: PgPool,
    pub(crate) broker: Nats,
    pub(crate) jetstream: jetstream::Context,
}

impl World {
    pub(crate) async fn new() -> Self {
        let broker = Nats::start(Place::temporary()).await.unwrap();
        let client = async_nats::connect(broker.url()).await.unwrap();
        Self::of(testbed::database(&MIGRATIONS).await, broker, client).await
    }

    pub(crate) async fn of(pool: PgPool, broker: Nats, client: async_nats::Client) -> Self {
        let jetstream = jetstream::new(client);
        let settings = Settings::default();
        provision::streams(&jetstream, &settings).await.unwrap();
        let hears = Hears::of(&reactions());
        provision::durables(&jetstream, &hears, &settings).await.unwrap();
        Self {
            pool,
            broker,
            jetstream,
        }
    }

    /// Has the broker give up sooner than usual.
    pub(crate) async fn provisioned(&self, ack_wait: Duration, max_deliver: i64) {
        let settings = Settings {
            ack_wait,
            max_deliver,
            ..Settings::default()
        };
        let hears = Hears::of(&reactions());
        provision::durables(&self.jetstream, &hears, &settings).await.unwrap();
    }

    /// Makes the broker deliver again soon what is not acknowledged.
    pub(crate) async fn redeliver_after(&self, ack_wait: Duration) {
        let known = self.durable().await.cached_info().config.clone();
        let mut config = pull::Config::try_from_consumer_config(known).unwrap();
        config.ack_wait = ack_wait;
        self.jetstream
            .create_consumer_on_stream(config, "PAYMENT")
            .await
            .unwrap();
    }

    /// What the broker knows of the ledger's durable on the stream PAYMENT.
    pub(crate) async fn durable(&self) -> consumer::Consumer<pull::Config> {
        self.jetstream
            .get_consumer_from_stream("inventory", "PAYMENT")
            .await
            .unwrap()
    }

    /// Waits until everything that was told is acknowledged.
    pub(crate) async fn all_heard(&self) {
        eventually("everything is acknowledged", async || {
            let info = self.durable().await.cached_info().clone();
            info.num_pending == 0 && info.num_ack_pending == 0
        })
        .await;
    }

    /// One more process of the service, with connections of its own.
    pub(crate) async fn replica(&self) -> Replica {
        self.replica_with(async_nats::connect(self.broker.url()).await.unwrap())
            .await
    }

    pub(crate) async fn replica_with(&self, client: async_nats::Client) -> Replica {
        Replica::of(&self.pool, client).await
    }

    /// Tells the ledger that a payment was declined; its code may be one that [`reactions`] stumbles over.
    pub(crate) async fn tell(&self, order: Uuid, code: &str) -> Uuid {
        let event_id = Uuid::now_v7();
        self.tell_as(event_id, order, code).await;
        event_id
    }

    /// The same under an id of one's own.
    pub(crate) async fn tell_as(&self, event_id: Uuid, order: Uuid, code: &str) {
        let event = declined(order, code);
        self.publish(headers(event_id, &event), serde_json::to_vec(&event).unwrap())
            .await;
    }

    /// Stores a message where declined payments are told, whatever it holds.
    pub(crate) async fn publish(&self, headers: HeaderMap, payload: Vec<u8>) {
        let subject = PaymentDeclined::TYPE.subject();
        let ack = self.jetstream.publish_with_headers(subject, headers, payload.into());
        ack.await.unwrap().await.unwrap();
    }

    /// How often the order was counted.
    pub(crate) async fn seen(&self, order: Uuid) -> i32 {
        let seen = sqlx::query_scalar("select seen from ledger where order_id = $1").bind(order);
        seen.fetch_optional(&self.pool).await.unwrap().unwrap_or_default()
    }

    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }

    /// Waits until the relays have nothing left to publish.
    pub(crate) async fn all_published(&self) {
        eventually("the outbox is empty", async || {
            self.count("select count(*) from outbox").await == 0
        })
        .await;
    }

    /// What the stream of the ledger's own events holds, in its order.
    pub(crate) async fn stream(&self) -> Vec<Told> {
        let mut stream = self.jetstream.get_stream("INVENTORY").await.unwrap();
        let messages = stream.info().await.unwrap().state.messages as usize;
        let all = stream.create_consumer(pull::OrderedConfig::default()).await.unwrap();
        let told = all.messages().await.unwrap().take(messages);
        told.map(|message| Told::of(message.unwrap().headers.clone().unwrap()))
            .collect()
            .await
    }
}

/// A message as it is found in the stream.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) subject: String,
    pub(crate) sequence: i64,
    pub(crate) headers: HeaderMap,
}

impl Told {
    pub(crate) fn of(headers: HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).unwrap().to_string();
        Self {
            subject: text("ce-subject"),
            sequence: text("ce-sequence").parse().unwrap(),
            headers,
        }
    }
}

/// Every subject counts 1, 2, 3 … in the order of the stream: nothing lost, doubled or reordered.
pub(crate) fn assert_in_order(stream: &[Told]) {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for told in stream {
        let last = last.entry(&told.subject).or_default();
        assert_eq!(told.sequence, *last + 1, "about {}", told.subject);
        *last += 1;
    }
}

/// A process of the service, as far as the messaging core goes; dropped, it dies without a word.
pub(crate) struct Replica {
    pub(crate) db: Db,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) shutdown: CancellationToken,
    pub(crate) relay: watch::Receiver<Standing>,
    tasks: Vec<JoinHandle<()>>,
}

impl Replica {
    /// A process with connections of its own to the same database.
    pub(crate) async fn of(pool: &PgPool, client: async_nats::Client) -> Self {
        let pool = PgPoolOptions::new()
            .acquire_timeout(Duration::from_secs(2))
            .connect_with(pool.connect_options().as_ref().clone())
            .await
            .unwrap();
        Self {
            db: Db::new(pool),
            jetstream: jetstream::new(client),
            shutdown: CancellationToken::new(),
            relay: watch::channel(Standing::default()).1,
            tasks: Vec::new(),
        }
    }

    pub(crate) fn consuming(self) -> Self {
        self.reacting(reactions())
    }

    /// Consuming, with other reactions than usual.
    pub(crate) fn reacting(self, reactions: Reactions<Ledger>) -> Self {
        let consumer = messaging::consume(
            self.db.clone(),
            self.jetstream.clone(),
            reactions,
            self.shutdown.clone(),
        );
        self.with(consumer)
    }

    /// With the relay that `RELAY` names, as a service would; polling by default.
    pub(crate) fn relaying(self) -> Self {
        let kind = std::env::var("RELAY").map_or(Kind::Polling, |kind| kind.parse().unwrap());
        self.relaying_by(kind)
    }

    pub(crate) fn relaying_by(mut self, kind: Kind) -> Self {
        let relay = Relay::new(self.db.clone(), self.jetstream.clone(), Owner::Inventory, kind);
        self.relay = relay.standing();
        let shutdown = self.shutdown.clone();
        self.with(relay.run(shutdown))
    }

    pub(crate) fn with(mut self, task: impl Future<Output = ()> + Send + 'static) -> Self {
        self.tasks.push(tokio::spawn(task));
        self
    }

    pub(crate) fn decisions(&self) -> Decisions<Ledger> {
        Decisions::start(self.db.clone())
    }

    /// Ends it in good order.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        for task in std::mem::take(&mut self.tasks) {
            task.await.unwrap();
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub(crate) fn declined(order_id: Uuid, code: &str) -> PaymentDeclined {
    PaymentDeclined {
        order_id,
        payment_id: order_id,
        code: code.into(),
        attempts: 1,
    }
}

/// The headers as the contract wants them, without the id by which the broker would drop a duplicate.
pub(crate) fn headers<E: Event>(event_id: Uuid, event: &E) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("ce-id", event_id.to_string());
    headers.insert("ce-type", E::TYPE.to_string());
    headers.insert("ce-time", Utc::now().to_rfc3339());
    headers.insert("ce-subject", event.subject().to_string());
    headers.insert("ce-sequence", "1");
    headers.insert("ce-correlationid", event.subject().to_string());
    headers
}

/// Waits for a condition, half a minute at most.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "waited in vain until {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Writes rows as `outbox::append` does, about so many subjects in turn.
pub(crate) async fn fill(db: impl PgExecutor<'_>, rows: i32, subjects: i32) {
    let insert = "
        insert into outbox (lane, event_id, event_type, nats_subject, subject, sequence, correlation_id, payload)
        select n % $2 % 16, gen_random_uuid(), 'shop.inventory.InventoryReleased.v1',
               'shop.inventory.InventoryReleased', $3 || n % $2, 1 + n / $2, '', '{}'
        from generate_series(0, $1 - 1) n";
    let subject = Uuid::now_v7().to_string();
    sqlx::query(insert)
        .bind(rows)
        .bind(subjects)
        .bind(subject)
        .execute(db)
        .await
        .unwrap();
}

/// Locks the order's page until the transaction ends.
pub(crate) async fn hold(pool: &PgPool, order: Uuid) -> Transaction<'static, Postgres> {
    let mut tx = pool.begin().await.unwrap();
    let page = sqlx::query("select from ledger where order_id = $1 for update").bind(order);
    assert!(page.fetch_optional(&mut *tx).await.unwrap().is_some());
    tx
}

/// Waits until a unit of work stands before a lock.
pub(crate) async fn somebody_waits(pool: &PgPool) {
    eventually("somebody waits for the lock", async || {
        let waiting = "select count(*) from pg_stat_activity
                       where wait_event_type = 'Lock' and datname = current_database()";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(pool).await.unwrap() > 0
    })
    .await;
}

/// How deliveries were answered, as the broker heard it.
pub(crate) struct Overheard {
    acks: Subscriber,
    refusals: Vec<String>,
    pleas: BTreeMap<String, usize>,
}

impl Overheard {
    pub(crate) async fn from(world: &World) -> Self {
        let client = async_nats::connect(world.broker.url()).await.unwrap();
        let acks = client.subscribe("$JS.ACK.>").await.unwrap();
        client.flush().await.unwrap();
        Self {
            acks,
            refusals: Vec::new(),
            pleas: BTreeMap::new(),
        }
    }

    /// Every "later".
    pub(crate) fn refusals(&mut self) -> &[String] {
        self.listen();
        &self.refusals
    }

    /// How often "I am still at it" was said of one and the same delivery.
    pub(crate) fn pleas_for_patience(&mut self) -> usize {
        self.listen();
        self.pleas.values().copied().max().unwrap_or_default()
    }

    fn listen(&mut self) {
        while let Some(Some(ack)) = self.acks.next().now_or_never() {
            match String::from_utf8(ack.payload.to_vec()).unwrap() {
                refusal if refusal.starts_with("-NAK") => self.refusals.push(refusal),
                plea if plea == "+WPI" => *self.pleas.entry(ack.subject.to_string()).or_default() += 1,
                _ => {}
            }
        }
    }
}
