//! While the database or the broker is away, everything waits and nothing is lost.

use std::time::Duration;

use messaging::{Decisions, Touched, Undecided};
use sqlx::postgres::PgPoolOptions;
use testbed::{Nats, Place, Postgres};
use uuid::Uuid;

use crate::common::{Ledger, MIGRATIONS, Overheard, World, assert_in_order, eventually, see};

/// Row 13: while the database is away no attempt is burnt, and whoever asks is told to come again.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_database_is_away() {
    let cluster = Postgres::start(Place::temporary()).await.unwrap();
    cluster.create_database("shop").await.unwrap();
    let pool = PgPoolOptions::new().connect(&cluster.url("shop")).await.unwrap();
    MIGRATIONS.run(&pool).await.unwrap();
    let broker = Nats::start(Place::temporary()).await.unwrap();
    let client = async_nats::connect(broker.url()).await.unwrap();
    let world = World::of(pool, broker, client).await;
    let mut overheard = Overheard::from(&world).await;
    let replica = world.replica().await.consuming().relaying();
    let decisions = replica.decisions();
    let orders: Vec<Uuid> = (0..40).map(|_| Uuid::now_v7()).collect();

    for order in &orders[..20] {
        world.tell(*order, "").await;
    }
    cluster.kill().await.unwrap();
    for order in &orders[20..] {
        world.tell(*order, "").await;
    }
    eventually("the events were tried several times", async || {
        overheard.pleas_for_patience() > 2
    })
    .await;
    assert!(overheard.refusals().is_empty(), "{:?}", overheard.refusals());
    let refused = ask(&decisions, Uuid::now_v7()).await;
    assert!(matches!(refused, Err(Undecided::Unavailable(_))), "{refused:?}");
    cluster.restart().await.unwrap();
    world.all_heard().await;
    ask(&decisions, Uuid::now_v7()).await.unwrap();
    world.all_published().await;

    for order in &orders {
        assert_eq!(world.seen(*order).await, 1);
    }
    assert_eq!(world.count("select count(*) from dead_letters").await, 0);
    assert_eq!(world.stream().await.len(), 41);
}

/// What it held is handled by whoever comes next, as soon as the database is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_does_not_wait_for_a_database_that_is_away() {
    let cluster = Postgres::start(Place::temporary()).await.unwrap();
    cluster.create_database("shop").await.unwrap();
    let pool = PgPoolOptions::new().connect(&cluster.url("shop")).await.unwrap();
    MIGRATIONS.run(&pool).await.unwrap();
    let broker = Nats::start(Place::temporary()).await.unwrap();
    let client = async_nats::connect(broker.url()).await.unwrap();
    let world = World::of(pool, broker, client).await;
    let mut overheard = Overheard::from(&world).await;
    let ending = world.replica().await.consuming();
    let next = world.replica().await;

    cluster.kill().await.unwrap();
    let orders: Vec<Uuid> = (0..20).map(|_| Uuid::now_v7()).collect();
    for order in &orders {
        world.tell(*order, "").await;
    }
    eventually("the events were tried", async || overheard.pleas_for_patience() > 0).await;
    let stopped = tokio::time::timeout(Duration::from_secs(30), ending.stop()).await;
    assert!(stopped.is_ok(), "it tries for as long as the database is away");

    cluster.restart().await.unwrap();
    let _next = next.consuming();
    world.all_heard().await;
    for order in &orders {
        assert_eq!(world.seen(*order).await, 1);
    }
}

/// Row 9: while the broker is away decisions are taken all the same, and told once when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_published_once_though_the_broker_is_killed() {
    let world = World::new().await;
    let replica = world.replica().await.relaying();
    let decisions = replica.decisions();
    let orders: Vec<Uuid> = (0..10).map(|_| Uuid::now_v7()).collect();
    let writer = {
        let orders = orders.clone();
        tokio::spawn(async move {
            for turn in 0..600 {
                ask(&decisions, orders[turn % orders.len()]).await.unwrap();
            }
        })
    };
    for _ in 0..3 {
        let before = world.count("select count(*) from units").await;
        eventually("the writer goes on", async || {
            writer.is_finished() || world.count("select count(*) from units").await > before + 100
        })
        .await;
        world.broker.kill().await.unwrap();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..200))).await;
        world.broker.restart().await.unwrap();
    }
    writer.await.unwrap();
    world.all_published().await;

    let stream = world.stream().await;
    assert_eq!(stream.len(), 600);
    assert_in_order(&stream);
}

async fn ask(decisions: &Decisions<Ledger>, order: Uuid) -> Result<(), Undecided> {
    decisions
        .decide(Touched::order(order), move |ledger| ((), see(ledger, order)))
        .await
}
