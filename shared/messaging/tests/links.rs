//! Links that are cut, stalled and forgotten, seen from the messaging core: nothing is lost, nothing happens twice,
//! and nothing needs to be restarted.

use std::str::FromStr;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use futures_util::{FutureExt, StreamExt};
use messaging::{Decisions, Touched, Undecided};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use testbed::{Nats, Place, Proxy, When};
use uuid::Uuid;

use crate::common::{Ledger, MIGRATIONS, Overheard, Replica, World, assert_in_order, eventually, fill, see};

/// As it crosses the wire: the statement, and not a word in somebody's data.
const COMMIT: &[u8] = b"COMMIT\0";

/// A service that reaches its database and its broker through links, and somebody who looks past them.
struct Linked {
    world: World,
    direct: PgPool,
    database: Proxy,
    broker: Proxy,
}

impl Linked {
    async fn new() -> Self {
        let url = testbed::database_url(&MIGRATIONS).await;
        let direct = PgPoolOptions::new().connect(&url).await.unwrap();
        let nats = Nats::start(Place::temporary()).await.unwrap();
        let database = Proxy::start(format!("127.0.0.1:{}", testbed::postgres().await.port()))
            .await
            .unwrap();
        let broker = Proxy::start(format!("127.0.0.1:{}", nats.port())).await.unwrap();
        let name = PgConnectOptions::from_str(&url)
            .unwrap()
            .get_database()
            .unwrap()
            .to_owned();
        let linked = PgConnectOptions::from_str(&format!("postgres://postgres@{}/{name}", database.address())).unwrap();
        // As every service sets them.
        let linked = linked.options([
            ("statement_timeout", "5s"),
            ("lock_timeout", "3s"),
            ("idle_in_transaction_session_timeout", "10s"),
        ]);
        let linked = PgPoolOptions::new().connect_with(linked).await.unwrap();
        let client = async_nats::connect(nats.url()).await.unwrap();
        Self {
            world: World::of(linked, nats, client).await,
            direct,
            database,
            broker,
        }
    }

    async fn replica(&self) -> Replica {
        // More often than services do, so that the silence of a dead connection is noticed sooner.
        let options = async_nats::ConnectOptions::new().ping_interval(Duration::from_secs(2));
        let client = options.connect(self.broker.address().to_string()).await.unwrap();
        self.world.replica_with(client).await
    }

    async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.direct).await.unwrap()
    }

    async fn seen(&self, order: Uuid) -> i64 {
        let seen = sqlx::query_scalar("select coalesce(sum(seen), 0) from ledger where order_id = $1").bind(order);
        seen.fetch_one(&self.direct).await.unwrap()
    }

    async fn outbox_holds(&self, events: i64) {
        eventually(&format!("the outbox holds {events}"), async || {
            self.count("select count(*) from outbox").await == events
        })
        .await;
    }

    /// Everything that was told has been heard once, and nobody was buried.
    async fn all_heard_once(&self, orders: &[Uuid]) {
        self.world.all_heard().await;
        for order in orders {
            assert_eq!(self.seen(*order).await, 1);
        }
        assert_eq!(self.count("select count(*) from inbox").await, orders.len() as i64);
        assert_eq!(self.count("select count(*) from dead_letters").await, 0);
    }
}

/// Row 14: a batch whose connection is cut before or after its commit is tried again by event id, and acts once.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_acts_once_though_the_outcome_of_its_commit_is_unknown() {
    for when in [When::Before, When::After] {
        let linked = Linked::new().await;
        let _replica = linked.replica().await.consuming();
        linked.database.cut_at(COMMIT, when);
        let order = Uuid::now_v7();
        linked.world.tell(order, "").await;
        linked.all_heard_once(&[order]).await;
        assert!(!linked.database.is_armed(), "{when:?}: nothing was cut");
        assert_eq!(linked.count("select count(*) from outbox").await, 1, "{when:?}");
        assert_eq!(
            linked.count("select count(*) from units").await,
            1 + i64::from(when == When::After),
            "{when:?}"
        );
    }
}

/// Row 14: whoever asked learns that the outcome is unknown; asking again under the same key acts once.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_acts_once_under_its_key_though_the_outcome_of_its_commit_is_unknown() {
    for when in [When::Before, When::After] {
        let linked = Linked::new().await;
        let decisions = linked.replica().await.decisions();
        let order = Uuid::now_v7();
        linked.database.cut_at(COMMIT, when);
        let unknown = ask_under(&decisions, order, "a key").await;
        assert!(
            matches!(unknown, Err(Undecided::Unavailable(_))),
            "{when:?}: {unknown:?}"
        );
        let committed = linked.seen(order).await;
        assert_eq!(committed, i64::from(when == When::After), "{when:?}");

        let repeated = ask_under(&decisions, order, "a key").await;
        assert_eq!(repeated.is_ok(), when == When::Before, "{when:?}: {repeated:?}");
        assert_eq!(linked.seen(order).await, 1, "{when:?}");
        assert_eq!(linked.count("select count(*) from outbox").await, 1, "{when:?}");
    }
}

/// Row 14: a batch that was published and could not be forgotten is published again, and stored once.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_told_once_though_the_relay_never_hears_that_it_was_forgotten() {
    for when in [When::Before, When::After] {
        let linked = Linked::new().await;
        let replica = linked.replica().await.relaying();
        let decisions = replica.decisions();
        ask(&decisions, Uuid::now_v7()).await.unwrap();
        linked.outbox_holds(0).await;
        linked.database.cut_at(*b"insert into outbox_archive", when);
        for _ in 0..10 {
            let order = Uuid::now_v7();
            eventually("it is decided", async || ask(&decisions, order).await.is_ok()).await;
        }
        linked.outbox_holds(0).await;
        let stream = linked.world.stream().await;
        assert_eq!(stream.len(), 11, "{when:?}");
        assert_in_order(&stream);
    }
}

/// Rows 4, 16: a thousand events that were published and not forgotten are recognised over a slow link, a group at a time.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_does_not_keep_the_relay_at_what_it_has_published_already() {
    let linked = Linked::new().await;
    fill(&linked.direct, 1_000, 10).await;
    linked.database.cut_at(*b"insert into outbox_archive", When::Before);
    let _replica = linked.replica().await.relaying();
    linked.broker.slow(Duration::from_millis(50));
    linked.outbox_holds(0).await;
    let stream = linked.world.stream().await;
    assert_eq!(stream.len(), 1_000);
    assert_in_order(&stream);
}

/// Row 16: while nothing reaches the broker, decisions are taken and wait in the outbox; healed, all of it is told.
#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_grows_while_the_broker_is_beyond_reach_and_drains_when_it_is_back() {
    let linked = Linked::new().await;
    let replica = linked.replica().await.relaying().consuming();
    let decisions = replica.decisions();
    ask(&decisions, Uuid::now_v7()).await.unwrap();
    linked.outbox_holds(0).await;
    linked.broker.stall();
    for _ in 0..30 {
        ask(&decisions, Uuid::now_v7()).await.unwrap();
    }
    linked.outbox_holds(30).await;
    let heard = Uuid::now_v7();
    linked.world.tell(heard, "").await;
    assert_eq!(linked.seen(heard).await, 0);
    linked.broker.heal();
    linked.all_heard_once(&[heard]).await;
    linked.outbox_holds(0).await;
    let stream = linked.world.stream().await;
    assert_eq!(stream.len(), 1 + 30 + 1);
    assert_in_order(&stream);
}

/// Row 16: a connection to the broker that nobody hears of again is given up, and a new one is made without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_connection_that_died_in_silence_is_replaced() {
    let linked = Linked::new().await;
    // What the broker sends into the void is sent again soon.
    linked.world.redeliver_after(Duration::from_secs(1)).await;
    let replica = linked.replica().await.relaying().consuming();
    let decisions = replica.decisions();
    ask(&decisions, Uuid::now_v7()).await.unwrap();
    linked.outbox_holds(0).await;
    linked.broker.strand();
    let heard = Uuid::now_v7();
    linked.world.tell(heard, "").await;
    ask(&decisions, Uuid::now_v7()).await.unwrap();
    // Two pings must go unanswered first.
    eventually("the connection is replaced", async || linked.seen(heard).await == 1).await;
    linked.outbox_holds(0).await;
    linked.all_heard_once(&[heard]).await;
}

/// Row 17: without its database a consumer acknowledges nothing, burns no attempt, asks for patience and goes on
/// when the link is healed.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_cannot_reach_its_database_keeps_its_events_until_it_can() {
    let linked = Linked::new().await;
    let mut overheard = Overheard::from(&linked.world).await;
    let _replica = linked.replica().await.consuming();
    let orders: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
    linked.world.tell(orders[0], "").await;
    linked.all_heard_once(&orders[..1]).await;
    linked.database.stall();
    for order in &orders[1..] {
        linked.world.tell(*order, "").await;
    }
    eventually("an attempt was given up in time", async || {
        overheard.pleas_for_patience() > 0
    })
    .await;
    let unacknowledged = linked.world.durable().await.cached_info().num_ack_pending;
    assert_eq!(unacknowledged, 4);
    linked.database.heal();
    linked.all_heard_once(&orders).await;
    assert!(overheard.refusals().is_empty(), "{:?}", overheard.refusals());
}

/// Row 17: connections to the database that nobody hears of again are given up, and new ones are made without a
/// restart: by the consumer, by decisions and by the relay.
#[tokio::test(flavor = "multi_thread")]
async fn database_connections_that_died_in_silence_are_replaced() {
    let linked = Linked::new().await;
    let replica = linked.replica().await.consuming().relaying();
    let decisions = replica.decisions();
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    linked.world.tell(first, "").await;
    linked.all_heard_once(&[first]).await;
    linked.outbox_holds(0).await;
    linked.database.strand();
    linked.world.tell(second, "").await;
    eventually("a decision is taken again", async || {
        let asked = tokio::time::timeout(Duration::from_secs(15), ask(&decisions, Uuid::now_v7())).await;
        asked.expect("a decision hangs").is_ok()
    })
    .await;
    linked.all_heard_once(&[first, second]).await;
    linked.outbox_holds(0).await;
}

/// Row 24: a stream that is full refuses; the relay backs off and tries again, decisions are taken meanwhile, and
/// everything is told once there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_stops_the_relay_and_nothing_else() {
    let linked = Linked::new().await;
    let looking = async_nats::connect(linked.world.broker.url()).await.unwrap();
    let mut sent = looking.subscribe("shop.inventory.>").await.unwrap();
    let room = limit_to(&linked.world, 1).await;
    let replica = linked.replica().await.relaying();
    let decisions = replica.decisions();
    let orders: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
    let mut tries = 0;
    eventually("the relay was refused several times", async || {
        tries += std::iter::from_fn(|| sent.next().now_or_never().flatten()).count();
        if linked.count("select count(*) from outbox").await < 20 {
            ask(&decisions, orders[tries % orders.len()]).await.unwrap();
        }
        tries > 3
    })
    .await;
    for order in &orders {
        ask(&decisions, *order).await.unwrap();
    }
    let waiting = linked.count("select count(*) from outbox").await;
    assert_eq!(linked.world.stream().await.len(), 0, "a full stream stores nothing");
    limit_to(&linked.world, room).await;
    linked.outbox_holds(0).await;
    let stream = linked.world.stream().await;
    assert_eq!(stream.len() as i64, waiting);
    assert_in_order(&stream);
}

/// Limits the stream of the ledger's own events, and returns its former limit.
async fn limit_to(world: &World, bytes: i64) -> i64 {
    let mut config = world
        .jetstream
        .get_stream("INVENTORY")
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    let before = std::mem::replace(&mut config.max_bytes, bytes);
    world.jetstream.update_stream(&config).await.unwrap();
    if bytes == 1 {
        #[allow(clippy::disallowed_methods, reason = "shows that the limit is felt")]
        let refused = world
            .jetstream
            .publish("shop.inventory.Test", "x".into())
            .await
            .unwrap()
            .await
            .unwrap_err();
        let code = std::error::Error::source(&refused)
            .and_then(|cause| cause.downcast_ref::<async_nats::jetstream::Error>())
            .map(async_nats::jetstream::Error::error_code);
        assert_eq!(code, Some(ErrorCode::STREAM_STORE_FAILED), "{refused:?}");
    }
    before
}

/// Row 25: a database whose disk is full keeps the consumer from acknowledging and burying; it goes on by itself.
///
/// The error is the one that PostgreSQL gives, but a trigger raises it: no disk is filled.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_consumer_until_there_is_room() {
    let linked = Linked::new().await;
    let mut overheard = Overheard::from(&linked.world).await;
    let replica = linked.replica().await.consuming();
    for statement in [
        "create function refuse_for_want_of_room() returns trigger language plpgsql as $$
         begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$",
        "create trigger full_disk before insert on outbox for each row execute function refuse_for_want_of_room()",
    ] {
        sqlx::query(statement).execute(&linked.direct).await.unwrap();
    }
    let order = Uuid::now_v7();
    linked.world.tell(order, "").await;
    // More often than an event of its own fault is tried.
    eventually("it was tried often", async || overheard.pleas_for_patience() > 6).await;
    let refused = ask(&replica.decisions(), Uuid::now_v7()).await;
    assert!(matches!(refused, Err(Undecided::Unavailable(_))), "{refused:?}");
    assert_eq!(linked.count("select count(*) from dead_letters").await, 0);
    sqlx::query("drop trigger full_disk on outbox")
        .execute(&linked.direct)
        .await
        .unwrap();
    linked.all_heard_once(&[order]).await;
    assert!(overheard.refusals().is_empty(), "{:?}", overheard.refusals());
}

async fn ask(decisions: &Decisions<Ledger>, order: Uuid) -> Result<(), Undecided> {
    decisions
        .decide(Touched::order(order), move |ledger| ((), see(ledger, order)))
        .await
}

/// Writes the key in the transaction of the decision, as an answer under an idempotency key is written.
async fn ask_under(decisions: &Decisions<Ledger>, order: Uuid, key: &'static str) -> Result<(), Undecided> {
    let decide = move |ledger: &mut Ledger| {
        ledger.label(key);
        ((), see(ledger, order))
    };
    decisions.decide(Touched::order(order), decide).await
}
