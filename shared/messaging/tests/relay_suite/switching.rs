//! The relays may be exchanged at any time, one replica after another: nothing is lost, doubled or reordered.

use messaging::relay::{Kind, Standing};
use messaging::{Decisions, Touched};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::slot::following;
use crate::common::{Ledger, World, assert_in_order, eventually, fill, see};

/// Row 37: what waited, what was written meanwhile, and what comes after.
#[tokio::test(flavor = "multi_thread")]
async fn switching_back_and_forth_loses_nothing() {
    let world = World::new().await;
    for kind in [Kind::Polling, Kind::Cdc, Kind::Polling, Kind::Cdc] {
        fill(&world.pool, 100, 10).await;
        let relay = match kind {
            Kind::Polling => world.replica().await.relaying_by(kind),
            Kind::Cdc => following(&world).await,
        };
        fill(&world.pool, 1_500, 10).await;
        world.all_published().await;
        fill(&world.pool, 100, 10).await;
        relay.stop().await;
    }
    let _relay = world.replica().await.relaying_by(Kind::Cdc);
    world.all_published().await;
    let stream = world.stream().await;
    assert_eq!(stream.len(), 4 * 1_700);
    assert_in_order(&stream);
}

/// Row 37: a slot that nobody will read again does not hold the log back until the disk is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_polls_drops_the_slot_of_one_that_is_gone() {
    let world = World::new().await;
    let reader = following(&world).await;
    let _poller = world.replica().await.relaying_by(Kind::Polling);
    fill(&world.pool, 100, 10).await;
    world.all_published().await;
    assert!(world.slot().await.is_some_and(|slot| slot.active), "it is in use");
    reader.stop().await;
    let _second = world.replica().await.relaying_by(Kind::Polling);
    eventually("the slot is gone", async || world.slot().await.is_none()).await;
}

#[test]
fn a_relay_of_another_kind_is_refused_by_name() {
    assert_eq!("cdc".parse(), Ok(Kind::Cdc));
    let refused = "kafka".parse::<Kind>().unwrap_err();
    assert!(refused.contains("RELAY") && refused.contains("kafka"), "{refused}");
}

/// Row 35: during a rollout both kinds run side by side and share the lanes, while replicas of either come and go.
#[tokio::test(flavor = "multi_thread")]
async fn relays_of_both_kinds_share_one_outbox() {
    let world = World::new().await;
    let writers = Writers::start(&world, 6).await;
    let mut relays = Vec::new();
    for turn in 0..12 {
        let kind = if turn % 2 == 0 { Kind::Cdc } else { Kind::Polling };
        relays.push(world.replica().await.relaying_by(kind));
        if relays.len() > 3 {
            // One in good order, the next without a word.
            let gone = relays.remove(0);
            if turn % 3 == 0 {
                gone.stop().await;
            }
        }
        let published = world.count("select count(*) from outbox_archive").await;
        eventually("some more is published", async || {
            world.count("select count(*) from outbox_archive").await > published + 5
        })
        .await;
    }
    let told = writers.stop().await;
    world.all_published().await;
    let stream = world.stream().await;
    assert_eq!(stream.len(), told);
    assert_in_order(&stream);
}

/// Row 35: of several readers one has the slot; when it dies the next one does, and each event is published once.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_reader_takes_over_when_the_first_dies() {
    let world = World::new().await;
    let first = following(&world).await;
    let second = world.replica().await.relaying_by(Kind::Cdc);
    let third = world.replica().await.relaying_by(Kind::Cdc);
    let writers = Writers::start(&world, 4).await;
    eventually("the first publishes", async || {
        world.count("select count(*) from outbox_archive").await > 10
    })
    .await;
    for replica in [&second, &third] {
        assert_eq!(*replica.relay.borrow(), Standing::StandingBy);
    }
    drop(first);
    eventually("one of the others follows", async || {
        let following = |relay: &&crate::common::Replica| *relay.relay.borrow() == Standing::Following;
        [&second, &third].into_iter().filter(following).count() == 1
    })
    .await;
    let told = writers.stop().await;
    world.all_published().await;
    let stream = world.stream().await;
    assert_eq!(stream.len(), told);
    assert_in_order(&stream);
}

/// Processes that decide about the same few orders until they are stopped.
struct Writers {
    stop: CancellationToken,
    tasks: tokio::task::JoinSet<usize>,
}

impl Writers {
    async fn start(world: &World, writers: usize) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), tokio::task::JoinSet::new());
        let orders: Vec<Uuid> = (0..20).map(|_| Uuid::now_v7()).collect();
        for _ in 0..writers {
            let (replica, orders, stop) = (world.replica().await, orders.clone(), stop.clone());
            tasks.spawn(async move {
                let decisions: Decisions<Ledger> = replica.decisions();
                let mut told = 0;
                while !stop.is_cancelled() {
                    let order = orders[fastrand::usize(..orders.len())];
                    let decide = move |ledger: &mut Ledger| ((), see(ledger, order));
                    decisions.decide(Touched::order(order), decide).await.unwrap();
                    told += 1;
                }
                told
            });
        }
        Self { stop, tasks }
    }

    /// How many events they told.
    async fn stop(self) -> usize {
        self.stop.cancel();
        self.tasks.join_all().await.into_iter().sum()
    }
}
