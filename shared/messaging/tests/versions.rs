//! Two versions of an event: told together while consumers move, and acted upon once by each of them.

use events::{Both, Event, EventType, Fault, InventoryReleased, PaymentDeclined, Subject, Upcaster};
use messaging::{Reactions, Touched};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::common::{Ledger, World, assert_in_order, declined, eventually, headers, reactions, see};

/// What a payment that was declined would tell in its second version.
#[derive(Serialize, Deserialize)]
struct PaymentDeclinedV2 {
    order_id: Uuid,
    /// Was `code`.
    reason: String,
}

impl Event for PaymentDeclinedV2 {
    const TYPE: EventType = EventType {
        version: 2,
        ..PaymentDeclined::TYPE
    };
    fn subject(&self) -> Subject {
        Subject::Order(self.order_id)
    }
    fn upcasters() -> Vec<Upcaster<Self>> {
        vec![Upcaster::from::<PaymentDeclined>()]
    }
}

impl From<PaymentDeclined> for PaymentDeclinedV2 {
    fn from(old: PaymentDeclined) -> Self {
        Self {
            order_id: old.order_id,
            reason: old.code,
        }
    }
}

/// The service of the tests after it has moved to the second version.
fn moved() -> Reactions<Ledger> {
    Reactions::of("inventory").on::<PaymentDeclinedV2>(count)
}

fn count(ledger: &mut Ledger, event: &PaymentDeclinedV2) -> Result<InventoryReleased, Fault> {
    match event.reason.as_str() {
        "hopeless" => Err(Fault::new("it is hopeless")),
        _ => Ok(see(ledger, event.order_id)),
    }
}

impl World {
    async fn tell_second(&self, event_id: Uuid, order_id: Uuid, reason: &str) {
        let event = PaymentDeclinedV2 {
            order_id,
            reason: reason.into(),
        };
        self.publish(headers(event_id, &event), serde_json::to_vec(&event).unwrap())
            .await;
    }

    async fn dead(&self) -> i64 {
        self.count("select count(*) from dead_letters").await
    }
}

#[tokio::test]
async fn a_reaction_to_the_second_version_hears_the_first_as_well() {
    let world = World::new().await;
    let order = Uuid::now_v7();
    world.tell(order, "insufficient_funds").await;
    let replica = world.replica().await.reacting(moved());
    world.all_heard().await;
    assert_eq!((world.seen(order).await, world.dead().await), (1, 0));
    replica.stop().await;
}

#[tokio::test]
async fn who_knows_both_versions_acts_once_on_a_fact_that_is_told_in_both() {
    let world = World::new().await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let (fact, other) = (Uuid::now_v7(), Uuid::now_v7());
    world.tell_as(fact, first, "ok").await;
    world.tell_second(events::twin_id(fact, 2), first, "ok").await;
    // Order of arrival does not matter.
    world.tell_second(events::twin_id(other, 2), second, "ok").await;
    world.tell_as(other, second, "ok").await;
    let replica = world.replica().await.reacting(moved());
    world.all_heard().await;
    assert_eq!((world.seen(first).await, world.seen(second).await), (1, 1));
    assert_eq!(
        (world.dead().await, world.count("select count(*) from inbox").await),
        (0, 2)
    );
    replica.stop().await;
}

#[tokio::test]
async fn who_knows_the_first_version_only_lets_the_second_pass() {
    let world = World::new().await;
    let (order, fact) = (Uuid::now_v7(), Uuid::now_v7());
    world.tell_second(events::twin_id(fact, 2), order, "ok").await;
    world.tell_as(fact, order, "ok").await;
    let replica = world.replica().await.reacting(reactions());
    world.all_heard().await;
    assert_eq!((world.seen(order).await, world.dead().await), (1, 0));
    assert_eq!(world.count("select count(*) from inbox").await, 2);
    replica.stop().await;
}

#[tokio::test]
async fn a_later_version_that_is_told_alone_is_never_passed_over_in_silence() {
    let world = World::new().await;
    let order = Uuid::now_v7();
    world.tell_second(Uuid::now_v7(), order, "ok").await;
    let replica = world.replica().await.reacting(reactions());
    world.all_heard().await;
    let reason =
        "select count(*) from dead_letters where reason = 'inventory does not know shop.payment.PaymentDeclined.v2'";
    assert_eq!((world.seen(order).await, world.count(reason).await), (0, 1));
    replica.stop().await;
}

#[tokio::test]
async fn a_consumer_that_moves_or_moves_back_between_two_versions_acts_once() {
    let world = World::new().await;
    let (order, fact, later) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    world.tell_as(fact, order, "ok").await;
    let before = world.replica().await.reacting(reactions());
    world.all_heard().await;
    before.stop().await;

    let after = world.replica().await.reacting(moved());
    world.tell_second(events::twin_id(fact, 2), order, "ok").await;
    world.tell_second(events::twin_id(later, 2), order, "ok").await;
    world.all_heard().await;
    after.stop().await;

    let back = world.replica().await.reacting(reactions());
    world.tell_as(later, order, "ok").await;
    world.all_heard().await;
    assert_eq!(
        (world.seen(order).await, world.dead().await),
        (2, 0),
        "once for each of two facts"
    );
    back.stop().await;
}

#[tokio::test]
async fn a_fact_that_cannot_be_handled_is_one_dead_letter_in_however_many_versions() {
    let world = World::new().await;
    let (order, fact) = (Uuid::now_v7(), Uuid::now_v7());
    world.tell_as(fact, order, "hopeless").await;
    world.tell_second(events::twin_id(fact, 2), order, "hopeless").await;
    let replica = world.replica().await.reacting(moved());
    world.all_heard().await;
    assert_eq!((world.seen(order).await, world.dead().await), (0, 1));
    replica.stop().await;
}

/// What the ledger itself would tell in its second version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct InventoryReleasedV2 {
    order_id: Uuid,
    /// Was `cause`.
    because: String,
}

impl Event for InventoryReleasedV2 {
    const TYPE: EventType = EventType {
        version: 2,
        ..InventoryReleased::TYPE
    };
    fn subject(&self) -> Subject {
        Subject::Order(self.order_id)
    }
}

/// How a producer tells both: the decision returns them as one.
fn release(ledger: &mut Ledger, order_id: Uuid) -> Both<InventoryReleased, InventoryReleasedV2> {
    let old = see(ledger, order_id);
    let because = old.cause.clone();
    Both(old, InventoryReleasedV2 { order_id, because })
}

#[tokio::test]
async fn a_producer_tells_both_versions_of_a_fact_in_one_transaction() {
    let world = World::new().await;
    let replica = world.replica().await.relaying();
    let order = Uuid::now_v7();
    let decide = move |ledger: &mut Ledger| ((), release(ledger, order));
    let decided = replica.decisions().decide(Touched::order(order), decide).await;
    decided.unwrap();
    eventually("both are published", async || world.stream().await.len() == 2).await;
    let stream = world.stream().await;
    assert_in_order(&stream);
    let texts = |name: &str| {
        stream
            .iter()
            .map(|told| told.headers.get(name).unwrap().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        texts("ce-type"),
        [
            "shop.inventory.InventoryReleased.v1",
            "shop.inventory.InventoryReleased.v2"
        ]
    );
    let ids: Vec<Uuid> = texts("ce-id").iter().map(|id| id.parse().unwrap()).collect();
    assert_eq!(ids[1], events::twin_id(ids[0], 2));
    replica.stop().await;
}

#[tokio::test]
async fn only_versions_of_one_fact_are_told_as_such() {
    let world = World::new().await;
    let replica = world.replica().await;
    let order = Uuid::now_v7();
    let unrelated = move |ledger: &mut Ledger| {
        let released = see(ledger, order);
        ((), Both(declined(order, "ok"), released))
    };
    let refused = replica.decisions().decide(Touched::order(order), unrelated).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("is no later version of the same fact")
    );
}
