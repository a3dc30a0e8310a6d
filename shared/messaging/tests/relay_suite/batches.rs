//! The relay publishes what was committed, in order, and forgets it only then.

use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt;
use messaging::outbox;
use testbed::{Nats, Place};
use uuid::Uuid;

use super::RELAY;
use crate::common::{MIGRATIONS, Told, World, assert_in_order, eventually, fill};

#[tokio::test(flavor = "multi_thread")]
async fn publishes_batches_of_any_size_in_order_and_archives_them() {
    let world = World::new().await;
    let mut total = 0;
    for (rows, subjects) in [(1, 1), (2, 1), (2_300, 7)] {
        fill(&world.pool, rows, subjects).await;
        let replica = world.replica().await.relaying_by(RELAY);
        world.all_published().await;
        replica.stop().await;
        total += rows as usize;
        assert_eq!(world.stream().await.len(), total);
    }
    assert_in_order(&world.stream().await);
    let archive = "select count(*) from outbox_archive where stream = 'INVENTORY' and cardinality(events) <= 1000";
    assert_eq!(world.count(archive).await, 1 + 1 + 3);
    let last = world.count("select max(stream_sequence) from outbox_archive").await;
    assert_eq!(last, total as i64);
}

/// Row 26: however much waits, a batch holds a thousand events at most, and the depth is only counted so far.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_drained_in_bounded_batches_and_never_counted_to_its_end() {
    let world = World::new().await;
    fill(&world.pool, 20_000, 500).await;
    assert_eq!(outbox::backlog(&world.pool).await.unwrap().depth, 10_000);
    let _replica = world.replica().await.relaying_by(RELAY);
    world.all_published().await;
    assert_eq!(world.count("select count(*) from outbox_archive").await, 20);
    assert_in_order(&world.stream().await);
}

/// Row 38: what was published gives its room back, so the outbox is no larger after the third load than after the
/// first. A vacuum spares what any snapshot of the server may still see and every page of a table that is in use, so
/// it is repeated until it was alone; it never is if the relay leaves a transaction open.
#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_does_not_grow_with_what_went_through_it() {
    let world = World::new().await;
    let _replica = world.replica().await.relaying_by(RELAY);
    for _ in 0..3 {
        fill(&world.pool, 5_000, 50).await;
        world.all_published().await;
        eventually("the outbox has given its room back", async || {
            sqlx::query("vacuum outbox").execute(&world.pool).await.unwrap();
            world.count("select pg_relation_size('outbox')").await == 0
        })
        .await;
    }
}

/// Row 4: whatever part of a batch was published when the process died, each is in the stream once.
#[tokio::test(flavor = "multi_thread")]
async fn publishes_once_what_was_published_but_not_forgotten() {
    let world = World::new().await;
    for (rows, published) in [(5, 1), (5, 4), (5, 5), (1, 1)] {
        fill(&world.pool, rows, 1).await;
        let ids: Vec<Uuid> = sqlx::query_scalar("select event_id from outbox order by id")
            .fetch_all(&world.pool)
            .await
            .unwrap();
        for id in &ids[..published] {
            publish_without_forgetting(&world, *id).await;
        }
        let replica = world.replica().await.relaying_by(RELAY);
        world.all_published().await;
        replica.stop().await;
    }
    let stream = world.stream().await;
    assert_eq!(stream.len(), 16);
    assert_in_order(&stream);
}

/// Row 4: a thousand events that were published when the process died, and some that were not, are in the stream once.
#[tokio::test(flavor = "multi_thread")]
async fn publishes_a_thousand_events_once_that_were_published_but_not_forgotten() {
    let world = World::new().await;
    fill(&world.pool, 1_000, 10).await;
    let ids: Vec<Uuid> = sqlx::query_scalar("select event_id from outbox order by id")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    for id in &ids[..990] {
        publish_without_forgetting(&world, *id).await;
    }
    let replica = world.replica().await.relaying_by(RELAY);
    world.all_published().await;
    replica.stop().await;
    let stream = world.stream().await;
    assert_eq!(stream.len(), 1_000);
    assert_in_order(&stream);
}

/// There is no cursor that could be ahead of it.
#[tokio::test(flavor = "multi_thread")]
async fn does_not_lose_a_smaller_id_that_commits_later() {
    let world = World::new().await;
    let _replica = world.replica().await.relaying_by(RELAY);
    let mut slow = world.pool.begin().await.unwrap();
    fill(&mut *slow, 1, 1).await;
    fill(&world.pool, 3, 3).await;
    eventually("the others are published", async || world.stream().await.len() == 3).await;
    slow.commit().await.unwrap();
    eventually("the late one is published", async || world.stream().await.len() == 4).await;
}

/// A broker from before atomic batches stores the first message and answers as ever.
#[tokio::test(flavor = "multi_thread")]
async fn sends_events_one_by_one_to_a_broker_that_knows_no_batches() {
    let broker = Nats::start(Place::temporary()).await.unwrap();
    let client = async_nats::connect(broker.url()).await.unwrap();
    let world = World::of(testbed::database(&MIGRATIONS).await, broker, client.clone()).await;
    world.jetstream.delete_stream("INVENTORY").await.unwrap();
    let mut requests = client.subscribe("shop.inventory.>").await.unwrap();
    fill(&world.pool, 3, 1).await;
    let _replica = world.replica().await.relaying_by(RELAY);

    let mut stored: Vec<HeaderMap> = Vec::new();
    while stored.len() < 3 {
        let request = tokio::time::timeout(Duration::from_secs(10), requests.next()).await;
        let request = request.expect("nothing more is sent").unwrap();
        let Some(reply) = request.reply else { continue };
        let headers = request.headers.unwrap();
        let known = |other: &HeaderMap| other.get("Nats-Msg-Id") == headers.get("Nats-Msg-Id");
        let duplicate = stored.iter().any(known);
        if !duplicate {
            stored.push(headers);
        }
        let ack = format!(
            r#"{{"stream":"INVENTORY","seq":{},"duplicate":{duplicate}}}"#,
            stored.len()
        );
        client.publish(reply, ack.into()).await.unwrap();
    }
    world.all_published().await;
    assert_in_order(&stored.into_iter().map(Told::of).collect::<Vec<_>>());
}

/// Publishes an event and dies before it is forgotten.
async fn publish_without_forgetting(world: &World, event_id: Uuid) {
    let row = sqlx::query_as("select subject, sequence from outbox where event_id = $1").bind(event_id);
    let (subject, sequence): (String, i64) = row.fetch_one(&world.pool).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", event_id.to_string());
    headers.insert("ce-id", event_id.to_string());
    headers.insert("ce-subject", subject);
    headers.insert("ce-sequence", sequence.to_string());
    let told = world
        .jetstream
        .publish_with_headers("shop.inventory.InventoryReleased", headers, "{}".into());
    told.await.unwrap().await.unwrap();
}
