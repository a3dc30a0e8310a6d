//! Any number of replicas write and relay at once; nothing is lost, doubled or reordered within a subject.

use std::time::{Duration, Instant};

use messaging::{Decisions, Touched};
use sqlx::postgres::PgListener;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::common::{Ledger, World, assert_in_order, eventually, fill, see};

/// Row 35: eight processes that write about the same few orders number the events of each without a gap, in order.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_give_every_subject_a_gapless_sequence() {
    let world = World::new().await;
    let _relays = [world.replica().await.relaying(), world.replica().await.relaying()];
    let orders: Vec<Uuid> = (0..12).map(|_| Uuid::now_v7()).collect();
    write(&world, &orders, 8, 25).await;
    world.all_published().await;

    let stream = world.stream().await;
    assert_eq!(stream.len(), 8 * 25);
    assert_in_order(&stream);
    let counted = world.count("select sum(seen) from ledger").await;
    assert_eq!(counted, 8 * 25);
}

/// Rows 35, 36: relays whose session is cut again and again, or that are killed, lose, double and reorder nothing
/// while others take over.
#[tokio::test(flavor = "multi_thread")]
async fn relays_that_die_lose_and_reorder_nothing() {
    let world = World::new().await;
    let orders: Vec<Uuid> = (0..40).map(|_| Uuid::now_v7()).collect();
    let mut relays = vec![world.replica().await.relaying(), world.replica().await.relaying()];
    let cut = "select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity
               where application_name = 'relay' and datname = current_database() order by random() limit 1) t";
    let chaos = async {
        for turn in 1.. {
            let published = world.count("select count(*) from outbox_archive").await;
            eventually("one more batch is published", async || {
                world.count("select count(*) from outbox_archive").await > published
            })
            .await;
            world.count(cut).await;
            if turn % 4 == 0 {
                relays.remove(0);
                relays.push(world.replica().await.relaying());
            }
        }
    };
    let writing = async {
        for _ in 0..15 {
            write(&world, &orders, 4, 10).await;
        }
    };
    tokio::select! {
        () = writing => {}
        () = chaos => {}
    }
    world.all_published().await;

    let stream = world.stream().await;
    assert_eq!(stream.len(), 15 * 4 * 10);
    assert_in_order(&stream);
}

/// Row 35: relays share the lanes out fairly, and the one that is left takes them all.
#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_shared_out_and_handed_over() {
    let world = World::new().await;
    let first = world.replica().await.relaying();
    lanes(&world, &[16]).await;
    let second = world.replica().await.relaying();
    lanes(&world, &[8, 8]).await;
    let third = world.replica().await.relaying();
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
    let writer = world.replica().await.relaying();
    let _other = world.replica().await.relaying();
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
    let writer = world.replica().await.relaying();
    let _other = world.replica().await.relaying();
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

/// So many processes, each with its own connections, decide so often about orders taken at random.
async fn write(world: &World, orders: &[Uuid], writers: usize, times: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let (replica, orders) = (world.replica().await, orders.to_vec());
        tasks.spawn(async move {
            let decisions = replica.decisions();
            for _ in 0..times {
                ask(&decisions, orders[fastrand::usize(..orders.len())]).await;
            }
        });
    }
    tasks.join_all().await;
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
