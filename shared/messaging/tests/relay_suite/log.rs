//! What the log tells is published when it is ours and still waits, and by itself, without the table's help.

use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::slot::following;
use crate::common::{World, assert_in_order, eventually, fill};

/// Row 37: the slot remembers what somebody else has published in the meantime.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_has_published_is_not_published_again_though_the_log_tells_of_it() {
    let world = World::new().await;
    following(&world).await.stop().await;
    fill(&world.pool, 100, 10).await;
    sqlx::query("delete from outbox").execute(&world.pool).await.unwrap();
    let _relay = following(&world).await;
    fill(&world.pool, 50, 10).await;
    world.all_published().await;
    let stream = world.stream().await;
    assert_eq!(stream.len(), 50);
    assert_in_order(&stream);
}

/// Row 35: the log tells of every lane, and a lane has one owner.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_somebody_else_holds_is_left_alone_until_it_is_given_up() {
    let world = World::new().await;
    let mut other = PgConnection::connect_with(&world.pool.connect_options()).await.unwrap();
    sqlx::query("select pg_advisory_lock(x'74696469'::int, 3)")
        .execute(&mut other)
        .await
        .unwrap();
    let _relay = following(&world).await;
    for _ in 0..3 {
        fill(&world.pool, 16, 16).await;
    }
    eventually("the other lanes are published", async || {
        world.stream().await.len() == 45
    })
    .await;
    assert_eq!(world.count("select count(*) from outbox where lane = 3").await, 3);
    fill(&world.pool, 1, 1).await;
    eventually("the log goes on", async || world.stream().await.len() == 46).await;
    assert_eq!(world.count("select count(*) from outbox where lane = 3").await, 3);
    other.close().await.unwrap();
    // Sooner than the net, which is cast half a minute after the relay began.
    tokio::time::timeout(Duration::from_secs(15), world.all_published())
        .await
        .unwrap();
    let stream = world.stream().await;
    assert_eq!(stream.len(), 49);
    assert_in_order(&stream);
}

/// The net would catch each of them, but only half a minute later.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_alone_tells_of_commits_of_any_process() {
    let world = World::new().await;
    let _relay = following(&world).await;
    let started = Instant::now();
    for turn in 1..=20 {
        fill(&world.pool, 3, 3).await;
        eventually("they are published", async || world.stream().await.len() == turn * 3).await;
    }
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
}

/// A transaction of any size is published in batches that the broker takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_is_told_in_bounded_batches() {
    let world = World::new().await;
    let _relay = following(&world).await;
    fill(&world.pool, 10_000, 50).await;
    world.all_published().await;
    let largest = "select max(cardinality(events))::bigint from outbox_archive";
    assert!(world.count(largest).await <= 1_000);
    assert_eq!(world.stream().await.len(), 10_000);
    assert_in_order(&world.stream().await);
}
