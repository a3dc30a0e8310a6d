//! The slot may be refused, lost, or held by a process that stands still: then the outbox is polled, and
//! nothing is lost.

use std::str::FromStr;
use std::sync::mpsc;
use std::thread::JoinHandle;

use messaging::relay::{Kind, Standing, Status};
use pgwire_replication::{ReplicationClient, ReplicationConfig};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use testbed::{Nats, Place, Postgres};
use tokio::runtime;

use crate::common::{MIGRATIONS, Replica, World, assert_in_order, eventually, fill};

/// Row 37: the disk stays bounded though nobody reads: the server gives the slot up, and the relay makes another.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_slot_is_made_anew_and_no_event_with_it() {
    let cluster = Postgres::start_with(Place::temporary(), &["max_slot_wal_keep_size=1MB", "max_wal_size=32MB"]);
    let cluster = cluster.await.unwrap();
    let world = World::on(&cluster).await;
    let relay = following(&world).await;
    fill(&world.pool, 100, 10).await;
    world.all_published().await;
    relay.stop().await;
    fill(&world.pool, 100, 10).await;
    while world.slot().await.is_some_and(|slot| slot.wal_status != "lost") {
        let log = "select pg_logical_emit_message(false, 'noise', repeat('x', 1000000)) from generate_series(1, 20)";
        sqlx::query(log).execute(&world.pool).await.unwrap();
        sqlx::query("select pg_switch_wal()")
            .execute(&world.pool)
            .await
            .unwrap();
        sqlx::query("checkpoint").execute(&world.pool).await.unwrap();
    }

    let _relay = following(&world).await;
    fill(&world.pool, 100, 10).await;
    world.all_published().await;
    assert_eq!(world.slot().await.unwrap().wal_status, "reserved");
    let stream = world.stream().await;
    assert_eq!(stream.len(), 300);
    assert_in_order(&stream);
}

/// Row 37: who may not have a slot polls, says why, and asks again.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_replication_polls_until_it_has_it() {
    let cluster = Postgres::start(Place::temporary()).await.unwrap();
    let world = World::on(&cluster).await;
    for statement in [
        "create role service login",
        "grant connect, create on database shop to service",
        "alter table outbox owner to service",
        "grant all on all tables in schema public to service",
    ] {
        sqlx::query(statement).execute(&world.pool).await.unwrap();
    }
    let service = PgConnectOptions::from_str(&cluster.url("shop"))
        .unwrap()
        .username("service");
    let own = World {
        pool: PgPoolOptions::new().connect_with(service).await.unwrap(),
        ..world
    };
    let relay = own.replica().await.relaying_by(Kind::Cdc);
    eventually("it says why it polls", async || {
        matches!(&*relay.relay.borrow(), Standing::Polling(because) if because.contains("the slot cannot be made"))
    })
    .await;
    fill(&own.pool, 100, 10).await;
    own.all_published().await;

    let admin = PgPoolOptions::new().connect(&cluster.url("shop")).await.unwrap();
    sqlx::query("alter role service replication")
        .execute(&admin)
        .await
        .unwrap();
    eventually("it follows the log", async || {
        *relay.relay.borrow() == Standing::Following
    })
    .await;
    fill(&own.pool, 100, 10).await;
    own.all_published().await;
    let stream = own.stream().await;
    assert_eq!(stream.len(), 200);
    assert_in_order(&stream);
}

/// Row 37: a server without logical replication is polled.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_no_logical_log_is_polled() {
    let cluster = Postgres::start_with(Place::temporary(), &["wal_level=replica"])
        .await
        .unwrap();
    let world = World::on(&cluster).await;
    let relay = world.replica().await.relaying_by(Kind::Cdc);
    fill(&world.pool, 100, 10).await;
    world.all_published().await;
    eventually(
        "it says why it polls",
        async || matches!(&*relay.relay.borrow(), Standing::Polling(because) if because.contains("wal_level")),
    )
    .await;
    let status = Status::of(Kind::Cdc, relay.relay.borrow().clone(), &world.pool)
        .await
        .unwrap();
    assert_eq!((status.state, status.slot), ("polling", None));
}

/// Row 37: the log of a busy neighbour is let go although nothing happens in this outbox.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_outbox_holds_no_log_back() {
    let world = World::new().await;
    let _relay = following(&world).await;
    let elsewhere = "create table noise as select generate_series(1, 100000) as n";
    sqlx::query(elsewhere).execute(&world.pool).await.unwrap();
    let written = world.count("select (pg_current_wal_lsn() - '0/0')::bigint").await;
    eventually("the slot has moved past it", async || {
        let confirmed = sqlx::query_scalar(
            "select (confirmed_flush_lsn - '0/0')::bigint from pg_replication_slots where database = current_database()",
        );
        confirmed.fetch_one(&world.pool).await.is_ok_and(|confirmed: i64| confirmed >= written)
    })
    .await;
    assert_eq!(world.count("select count(*) from outbox_archive").await, 0);
}

/// Row 36: a process that stands still keeps neither lanes nor slot; when it goes on it publishes nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stands_still_loses_its_slot_to_another() {
    let world = World::new().await;
    let mut frozen = Frozen::relaying(&world).await;
    fill(&world.pool, 50, 5).await;
    world.all_published().await;
    frozen.freeze();
    fill(&world.pool, 50, 5).await;
    let heir = world.replica().await.relaying_by(Kind::Cdc);
    eventually("another follows the log", async || {
        *heir.relay.borrow() == Standing::Following
    })
    .await;
    fill(&world.pool, 50, 5).await;
    world.all_published().await;
    frozen.thaw();
    fill(&world.pool, 50, 5).await;
    world.all_published().await;
    eventually("the sleeper stands by", async || {
        *frozen.relay.borrow() == Standing::StandingBy
    })
    .await;
    let stream = world.stream().await;
    assert_eq!(stream.len(), 200);
    assert_in_order(&stream);
}

/// Row 36: a slot is taken from whoever holds it without leading, however lively.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_taken_from_a_session_that_holds_it_without_leading() {
    let world = World::new().await;
    following(&world).await.stop().await;
    let (slot, options) = (world.slot().await.unwrap(), world.pool.connect_options());
    let socket = options.get_socket().unwrap().to_str().unwrap();
    let database = options.get_database().unwrap();
    let squatter = ReplicationConfig::unix(
        socket,
        options.get_port(),
        options.get_username(),
        "",
        database,
        slot.name,
        "outbox_relay",
    );
    let mut squatter = ReplicationClient::connect(squatter).await.unwrap();
    squatter.wait_started().await.unwrap();
    let _relay = following(&world).await;
    fill(&world.pool, 100, 10).await;
    world.all_published().await;
    while let Ok(Some(_)) = squatter.recv().await {}
    assert_eq!(world.stream().await.len(), 100);
}

/// Row 37: whatever happens to session, slot and publication, the table is polled until they are there again.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_killed_or_loses_its_slot_is_replaced() {
    let world = World::new().await;
    let relay = following(&world).await;
    for harm in [
        "select count(pg_terminate_backend(active_pid)) from pg_replication_slots where database = current_database()",
        "select count(pg_drop_replication_slot(slot_name)) from (
             select slot_name from pg_replication_slots
             where database = current_database() and pg_terminate_backend(active_pid, 5000) offset 0) t",
    ] {
        // The relay may be quicker to take its slot again than we are to drop it.
        let _ = sqlx::query(harm).execute(&world.pool).await;
        fill(&world.pool, 100, 10).await;
        world.all_published().await;
        eventually("it follows the log again", async || {
            *relay.relay.borrow() == Standing::Following
        })
        .await;
    }
    sqlx::query("drop publication outbox_relay")
        .execute(&world.pool)
        .await
        .unwrap();
    for _ in 0..3 {
        fill(&world.pool, 100, 10).await;
        world.all_published().await;
    }
    let stream = world.stream().await;
    assert_eq!(stream.len(), 500);
    assert_in_order(&stream);
}

/// A row that is committed but not yet visible is neither overlooked nor taken for published.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_while_the_slot_was_made_is_told_once() {
    let world = World::new().await;
    let mut slow = world.pool.begin().await.unwrap();
    fill(&mut *slow, 10, 2).await;
    let relay = world.replica().await.relaying_by(Kind::Cdc);
    fill(&world.pool, 10, 2).await;
    eventually("the others are published", async || world.stream().await.len() == 10).await;
    slow.commit().await.unwrap();
    world.all_published().await;
    eventually("it follows the log", async || {
        *relay.relay.borrow() == Standing::Following
    })
    .await;
    fill(&world.pool, 10, 2).await;
    world.all_published().await;
    let stream = world.stream().await;
    assert_eq!(stream.len(), 30);
    assert_in_order(&stream);
}

/// One more replica, once it publishes what the log tells.
pub(super) async fn following(world: &World) -> Replica {
    let replica = world.replica().await.relaying_by(Kind::Cdc);
    eventually("it follows the log", async || {
        *replica.relay.borrow() == Standing::Following
    })
    .await;
    replica
}

impl World {
    /// On a cluster of its own, whose database is called `shop`.
    async fn on(cluster: &Postgres) -> Self {
        cluster.create_database("shop").await.unwrap();
        let pool = PgPoolOptions::new().connect(&cluster.url("shop")).await.unwrap();
        MIGRATIONS.run(&pool).await.unwrap();
        let broker = Nats::start(Place::temporary()).await.unwrap();
        let client = async_nats::connect(broker.url()).await.unwrap();
        Self::of(pool, broker, client).await
    }

    pub(super) async fn slot(&self) -> Option<messaging::relay::Slot> {
        let status = Status::of(Kind::Cdc, Standing::default(), &self.pool).await.unwrap();
        status.slot
    }
}

/// A process of its own, as far as standing still goes: one thread, with the connections that it serves.
struct Frozen {
    runtime: runtime::Handle,
    relay: tokio::sync::watch::Receiver<Standing>,
    thaw: Option<mpsc::Sender<()>>,
    end: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Frozen {
    async fn relaying(world: &World) -> Self {
        let (pool, url) = (world.pool.clone(), world.broker.url().to_owned());
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let (end, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let ended = async move {
                while ended.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            };
            let handle = runtime.handle().clone();
            runtime.block_on(async move {
                let client = async_nats::connect(url).await.unwrap();
                let replica = Replica::of(&pool, client).await.relaying_by(Kind::Cdc);
                ready.send((handle, replica.relay.clone())).unwrap();
                ended.await;
            });
        });
        let (runtime, relay) = is_ready.await.unwrap();
        eventually("it follows the log", async || *relay.borrow() == Standing::Following).await;
        Self {
            runtime,
            relay,
            thaw: None,
            end: Some((end, thread)),
        }
    }

    /// Nothing of it runs any more; its connections stay open and say nothing.
    fn freeze(&mut self) {
        let (thaw, thawed) = mpsc::channel::<()>();
        let (stands, still) = mpsc::channel();
        self.thaw = Some(thaw);
        self.runtime.spawn(async move {
            stands.send(()).unwrap();
            let _ = thawed.recv();
        });
        still.recv().unwrap();
    }

    fn thaw(&mut self) {
        self.thaw = None;
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
        if let Some((end, thread)) = self.end.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}
