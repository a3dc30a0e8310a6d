//! Events are acted upon once, and acknowledged after that.

use std::time::Duration;

use async_nats::ConnectOptions;
use sqlx::PgPool;
use testbed::{Nats, Place};
use uuid::Uuid;

use crate::common::{MIGRATIONS, World, eventually, hold, somebody_waits};

/// Rows 6, 18: an event has one effect, although its copies come in one batch and once more after it.
#[tokio::test(flavor = "multi_thread")]
async fn acts_once_on_an_event_delivered_five_times() {
    let world = World::new().await;
    let (event, order) = (Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..4 {
        world.tell_as(event, order, "").await;
    }
    let _replica = world.replica().await.consuming();
    world.all_heard().await;
    world.tell_as(event, order, "").await;
    world.all_heard().await;

    assert_eq!(effects(&world.pool).await, (1, 1, 1));
}

/// Row 5: nothing is acknowledged before its commit, so whoever dies before that loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledges_an_event_after_its_commit() {
    let world = World::new().await;
    world.redeliver_after(Duration::from_millis(500)).await;
    let order = Uuid::now_v7();
    let first = world.replica().await.consuming();
    world.tell(order, "").await;
    world.all_heard().await;

    let lock = hold(&world.pool, order).await;
    world.tell(order, "").await;
    somebody_waits(&world.pool).await;
    drop(first);
    let info = world.durable().await.cached_info().clone();
    assert_eq!((info.num_ack_pending, info.ack_floor.stream_sequence), (1, 1));

    lock.rollback().await.unwrap();
    let _second = world.replica().await.consuming();
    world.all_heard().await;
    assert_eq!(world.seen(order).await, 2);
}

/// Rows 5, 6: wherever the process dies, every event is acted upon once.
#[tokio::test(flavor = "multi_thread")]
async fn acts_once_however_often_the_process_dies() {
    let world = World::new().await;
    world.redeliver_after(Duration::from_millis(300)).await;
    let orders: Vec<Uuid> = (0..10).map(|_| Uuid::now_v7()).collect();
    for round in 0..10 {
        for order in &orders {
            world.tell(*order, "").await;
        }
        let replica = world.replica().await.consuming();
        let told = 10 * (round + 1);
        eventually("the new events are delivered", async || {
            world.durable().await.cached_info().delivered.stream_sequence == told
        })
        .await;
        // Whatever it is doing then.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..10))).await;
        drop(replica);
    }
    let _survivor = world.replica().await.consuming();
    world.all_heard().await;

    assert_eq!(effects(&world.pool).await, (100, 100, 100));
    let unequal = world.count("select count(*) from ledger where seen <> 10").await;
    assert_eq!(unequal, 0);
}

/// Row 6: an event whose effect is committed, but whose acknowledgement never arrived, is recognised.
#[tokio::test(flavor = "multi_thread")]
async fn recognises_a_redelivery_after_a_lost_acknowledgement() {
    let users = r#"authorization { users: [
        { user: all, password: all }
        { user: mute, password: mute, permissions: { publish: { deny: ["$JS.ACK.>"] } } }
    ] }"#;
    let broker = Nats::start_with(Place::temporary(), users).await.unwrap();
    let url = broker.url();
    let client = async |user: &str| {
        let options = ConnectOptions::with_user_and_password(user.into(), user.into());
        options.connect(&url).await.unwrap()
    };
    let world = World::of(testbed::database(&MIGRATIONS).await, broker, client("all").await).await;
    world.redeliver_after(Duration::from_millis(300)).await;

    let mute = world.replica_with(client("mute").await).await.consuming();
    world.tell(Uuid::now_v7(), "").await;
    eventually("it is delivered again", async || {
        world.durable().await.cached_info().num_redelivered == 1
    })
    .await;
    drop(mute);
    assert_eq!(world.durable().await.cached_info().num_ack_pending, 1);

    let _replica = world.replica_with(client("all").await).await.consuming();
    world.all_heard().await;
    assert_eq!(effects(&world.pool).await, (1, 1, 1));
}

/// Row 48: a consumer that is stopped hands back what it has not handled, so that the others need not wait until its
/// time to acknowledge has run out.
#[tokio::test(flavor = "multi_thread")]
async fn hands_back_what_it_has_not_handled_when_it_is_stopped() {
    let world = World::new().await;
    let first = world.replica().await.consuming();
    let held = Uuid::now_v7();
    world.tell(held, "").await;
    world.all_heard().await;
    let lock = hold(&world.pool, held).await;
    world.tell(held, "").await;
    somebody_waits(&world.pool).await;
    for _ in 0..400 {
        world.tell(Uuid::now_v7(), "").await;
    }
    eventually("all of them are delivered", async || {
        world.durable().await.cached_info().delivered.stream_sequence == 402
    })
    .await;
    let stopping = tokio::spawn(first.stop());
    lock.rollback().await.unwrap();
    stopping.await.unwrap();
    assert_eq!(
        effects(&world.pool).await.0,
        2,
        "it should have handled its batch and no more"
    );

    let _second = world.replica().await.consuming();
    let quickly = tokio::time::timeout(Duration::from_secs(15), world.all_heard());
    quickly
        .await
        .expect("some events wait for the end of their time to be acknowledged");
    assert_eq!(effects(&world.pool).await, (402, 402, 402));
}

/// Counted, in the inbox, in the outbox.
async fn effects(pool: &PgPool) -> (i64, i64, i64) {
    sqlx::query_as(
        "select (select coalesce(sum(seen), 0) from ledger), (select count(*) from inbox), (select count(*) from outbox)",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}
