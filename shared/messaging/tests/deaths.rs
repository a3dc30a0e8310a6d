//! Whoever handles it dies, each time: the broker counts, and the event is buried without a word of theirs.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use futures_util::StreamExt;
use sqlx::postgres::PgPoolOptions;
use testbed::{Nats, Place, Postgres};
use uuid::Uuid;

use crate::common::{MIGRATIONS, Overheard, World, eventually};

impl World {
    /// Takes every event so often and says nothing, as processes do that die each time.
    async fn die(&self, events: usize, times: i64) {
        let mut delivered = 0;
        let mut messages = self.durable().await.messages().await.unwrap();
        while delivered < events {
            let message = messages.next().await.unwrap().unwrap();
            if message.info().unwrap().delivered == times {
                delivered += 1;
            } else {
                message.ack_with(AckKind::Nak(None)).await.unwrap();
            }
        }
    }

    /// Waits until the broker has given up so many events. It may do so only once somebody asks for more.
    async fn given_up(&self, events: u64) {
        let mut messages = self.durable().await.messages().await.unwrap();
        let asking = tokio::spawn(async move { messages.next().await });
        eventually("the broker has given up", async || {
            let advisories = self.jetstream.get_stream("ADVISORIES").await.unwrap();
            advisories.cached_info().state.messages == events
        })
        .await;
        asking.abort();
    }

    async fn one_is_dead(&self) -> (Uuid, String, i64, Vec<u8>) {
        eventually("it is a dead letter", async || {
            self.count("select count(*) from dead_letters where state = 'dead'")
                .await
                == 1
        })
        .await;
        sqlx::query_as("select event_id, reason, attempts, payload from dead_letters where state = 'dead'")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

/// Row 7: the broker gives up while nobody lives; the next process buries the event, tries it once more, and that is all.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_never_acknowledged_is_buried_and_parks_what_comes_after_it() {
    let world = World::new().await;
    world.provisioned(Duration::from_millis(300), 3).await;
    let (poisoned, healthy) = (Uuid::now_v7(), Uuid::now_v7());
    let dead = world.tell(poisoned, "hopeless").await;
    world.die(1, 3).await;
    world.given_up(1).await;
    let info = world.durable().await.cached_info().clone();
    assert_eq!(
        (info.num_pending, info.num_ack_pending),
        (0, 0),
        "it is nobody's any more"
    );

    let _replica = world.replica().await.consuming();
    let letter = world.one_is_dead().await;
    assert_eq!((letter.0, letter.2), (dead, 4));
    assert_eq!(letter.1, "it is hopeless");
    let why = "select count(*) from dead_letter_actions where what = 'redrive' and who = 'inventory'
               and reason = 'delivered 3 times, and never with an outcome'";
    assert_eq!(world.count(why).await, 1);
    assert!(String::from_utf8(letter.3).unwrap().contains(&poisoned.to_string()));
    world.tell(poisoned, "").await;
    world.tell(healthy, "").await;
    world.all_heard().await;
    assert_eq!((world.seen(poisoned).await, world.seen(healthy).await), (0, 1));
    assert_eq!(world.count("select count(*) from inbox").await, 1);
}

/// Row 7: whoever only stood beside the culprit is handled, late, and nobody has to do anything.
#[tokio::test(flavor = "multi_thread")]
async fn an_innocent_event_that_the_broker_has_given_up_is_handled_all_the_same() {
    let world = World::new().await;
    world.provisioned(Duration::from_millis(300), 3).await;
    let innocent = Uuid::now_v7();
    world.tell(innocent, "").await;
    world.die(1, 3).await;
    world.given_up(1).await;
    let _replica = world.replica().await.consuming();
    eventually("it is handled", async || world.seen(innocent).await == 1).await;
    let open = "select count(*) from dead_letters where closed_at is null";
    eventually("nothing is open", async || world.count(open).await == 0).await;
}

/// Row 7: an event whose effect is committed is no dead letter, though nobody lived to acknowledge it.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_handled_after_all_is_not_buried() {
    let world = World::new().await;
    world.provisioned(Duration::from_millis(300), 3).await;
    let (handled, buried) = (Uuid::now_v7(), Uuid::now_v7());
    world.tell_as(handled, handled, "").await;
    world.die(1, 3).await;
    sqlx::query("insert into inbox (event_id, consumer) values ($1, 'inventory')")
        .bind(handled)
        .execute(&world.pool)
        .await
        .unwrap();
    world.tell_as(buried, buried, "hopeless").await;
    world.die(1, 3).await;
    world.given_up(2).await;
    let _replica = world.replica().await.consuming();
    assert_eq!(world.one_is_dead().await.0, buried);
    assert_eq!(world.count("select count(*) from inbox").await, 1);
}

/// Row 7: an event that can no longer be looked up leaves a dead letter all the same, which says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_up_is_buried_without_its_content() {
    let world = World::new().await;
    world.provisioned(Duration::from_millis(300), 3).await;
    world.tell(Uuid::now_v7(), "").await;
    world.die(1, 3).await;
    world.given_up(1).await;
    world.jetstream.delete_stream("PAYMENT").await.unwrap();
    let _replica = world.replica().await.consuming();
    let (_, reason, _, payload) = world.one_is_dead().await;
    assert_eq!(
        reason,
        "delivered 3 times, and never with an outcome; the broker does not show it"
    );
    assert!(payload.is_empty());
}

/// Row 7: what was delivered suspiciously often is handled alone, so that it takes nobody with it.
#[tokio::test(flavor = "multi_thread")]
async fn suspects_are_handled_alone() {
    let world = World::new().await;
    world.provisioned(Duration::from_millis(300), 20).await;
    for _ in 0..10 {
        world.tell(Uuid::now_v7(), "").await;
    }
    world.die(10, 3).await;
    for _ in 0..10 {
        world.tell(Uuid::now_v7(), "").await;
    }
    let _replica = world.replica().await.consuming();
    world.all_heard().await;
    assert_eq!(world.count("select sum(seen) from ledger").await, 20);
    let alone = "select count(*) from (select 1 from inbox group by handled_at having count(*) = 1) t";
    assert!(world.count(alone).await >= 10);
}

/// Rows 7, 13: however long the database is away, no delivery is counted, neither of what is begun nor of what waits.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_given_up_while_the_database_is_away() {
    let cluster = Postgres::start(Place::temporary()).await.unwrap();
    cluster.create_database("shop").await.unwrap();
    let pool = PgPoolOptions::new().connect(&cluster.url("shop")).await.unwrap();
    MIGRATIONS.run(&pool).await.unwrap();
    let broker = Nats::start(Place::temporary()).await.unwrap();
    let client = async_nats::connect(broker.url()).await.unwrap();
    let world = World::of(pool, broker, client).await;
    world.provisioned(Duration::from_secs(4), 2).await;
    let mut overheard = Overheard::from(&world).await;
    let _replica = world.replica().await.consuming();
    let orders: Vec<Uuid> = (0..40).map(|_| Uuid::now_v7()).collect();
    world.tell(orders[0], "").await;
    world.all_heard().await;
    cluster.kill().await.unwrap();
    for order in &orders[1..] {
        world.tell(*order, "").await;
    }
    eventually("more than two times to acknowledge have passed", async || {
        overheard.pleas_for_patience() > 14
    })
    .await;
    let info = world.durable().await.cached_info().clone();
    assert_eq!((info.num_redelivered, info.num_ack_pending), (0, 39));
    cluster.restart().await.unwrap();
    world.all_heard().await;
    for order in &orders {
        assert_eq!(world.seen(*order).await, 1);
    }
    assert_eq!(world.count("select count(*) from dead_letters").await, 0);
}
