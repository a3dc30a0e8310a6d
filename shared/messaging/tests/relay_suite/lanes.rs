//! Polling relays share the lanes out among them, and call each other.

use std::time::{Duration, Instant};

use messaging::relay::Kind;
use messaging::{Decisions, Touched};
use sqlx::postgres::PgListener;
use uuid::Uuid;

use crate::common::{Ledger, World, eventually, fill, see};

const RELAY: Kind = Kind::Polling;

/// Row 35: relays share the lanes out fairly, and the one that is left takes them all.
#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_shared_out_and_handed_over() {
    let world = World::new().await;
    let first = world.replica().await.relaying_by(RELAY);
    lanes(&world, &[16]).await;
    let second = world.replica().await.relaying_by(RELAY);
    lanes(&world, &[8, 8]).await;
    let third = world.replica().await.relaying_by(RELAY);
    lanes(&world, &[4, 6, 6]).await;
    drop(first);
    lanes(&world, &[8, 8]).await;
    third.stop().await;
    lanes(&world, &[16]).await;
    second.stop().await;
    lanes(&world, &[]).await;
}

/// Without the call the other replica would look twice a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_wakes_the_relay_of_another_replica() {
    let world = World::new().await;
    let writer = world.replica().await.relaying_by(RELAY);
    let _other = world.replica().await.relaying_by(RELAY);
    lanes(&world, &[8, 8]).await;
    let decisions = writer.decisions();
    let started = Instant::now();
    for turn in 1..=20 {
        ask(&decisions, Uuid::now_v7()).await;
        eventually("it is published", async || {
            world
                .count("select coalesce(sum(cardinality(events)), 0) from outbox_archive")
                .await
                == turn
        })
        .await;
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

/// A commit that falls into a batch of one's own must not be forgotten over it.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_relay_wakes_the_others_as_well() {
    let world = World::new().await;
    let writer = world.replica().await.relaying_by(RELAY);
    let _other = world.replica().await.relaying_by(RELAY);
    lanes(&world, &[8, 8]).await;
    let mut calls = PgListener::connect_with(&world.pool).await.unwrap();
    calls.listen("outbox").await.unwrap();
    fill(&world.pool, 10_000, 160).await;
    eventually("the relays are busy", async || {
        world.count("select count(*) from outbox_archive").await > 0
    })
    .await;
    ask(&writer.decisions(), Uuid::now_v7()).await;
    let called = tokio::time::timeout(Duration::from_secs(5), calls.recv()).await;
    called.expect("nobody called").unwrap();
}

async fn ask(decisions: &Decisions<Ledger>, order: Uuid) {
    let decide = move |ledger: &mut Ledger| ((), see(ledger, order));
    decisions.decide(Touched::order(order), decide).await.unwrap();
}

/// Waits until the relays hold so many lanes each.
async fn lanes(world: &World, expected: &[i64]) {
    eventually("the lanes are shared out", async || {
        let held = "select count(*) from pg_locks where locktype = 'advisory' and objid < 16 and granted
                    and database = (select oid from pg_database where datname = current_database())
                    group by pid order by 1";
        let held: Vec<i64> = sqlx::query_scalar(held).fetch_all(&world.pool).await.unwrap();
        held == expected
    })
    .await;
}
