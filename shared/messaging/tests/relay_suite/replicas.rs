//! Any number of replicas write and relay at once; nothing is lost, doubled or reordered within a subject.

use messaging::{Decisions, Touched};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::RELAY;
use crate::common::{Ledger, World, assert_in_order, eventually, see};

/// Row 35: eight processes that write about the same few orders number the events of each without a gap, in order.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_give_every_subject_a_gapless_sequence() {
    let world = World::new().await;
    let _relays = [
        world.replica().await.relaying_by(RELAY),
        world.replica().await.relaying_by(RELAY),
    ];
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
    let mut relays = vec![
        world.replica().await.relaying_by(RELAY),
        world.replica().await.relaying_by(RELAY),
    ];
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
                relays.push(world.replica().await.relaying_by(RELAY));
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
