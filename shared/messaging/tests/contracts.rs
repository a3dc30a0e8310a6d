//! The registry of contracts, and what is not told because it breaks its schema.

use events::contract::Contract;
use events::{Event, EventType, InventoryReleased, OrderPlaced, Owner, Subject};
use messaging::registry::{self, Registered};
use messaging::{Touched, Undecided};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::common::{Ledger, World};

fn order() -> Contract {
    Contract::of(Some(Owner::Order), [])
}

/// Somebody who hears placed orders and wants the customer's telephone number.
fn caller() -> Contract {
    let mut contract = Contract::of(None, [OrderPlaced::TYPE]);
    let customer = &mut contract.accepts.get_mut("OrderPlaced.v1").unwrap()["properties"]["customer"];
    customer["properties"]["phone"] = json!({ "type": "string" });
    customer["required"].as_array_mut().unwrap().push(json!("phone"));
    contract
}

fn sentences(registered: Registered, starting: &str) -> Vec<String> {
    match registered {
        Registered::Compatible => Vec::new(),
        Registered::Refused(conflicts) => conflicts.iter().map(|conflict| conflict.refusal(starting)).collect(),
    }
}

#[tokio::test]
async fn whoever_expects_what_nobody_sends_is_refused_and_leaves_no_trace() {
    let world = World::new().await;
    let modest = Contract::of(None, [OrderPlaced::TYPE]);
    for (name, contract) in [("order", order()), ("caller", modest.clone())] {
        let registered = registry::register(&world.jetstream, name, &contract).await.unwrap();
        assert_eq!(registered, Registered::Compatible);
    }
    let refused = registry::register(&world.jetstream, "caller", &caller()).await.unwrap();
    assert_eq!(
        sentences(refused, "caller"),
        ["caller cannot start: it requires `customer.phone` of OrderPlaced.v1, which order does not send"]
    );
    let in_use = registry::in_use(&world.jetstream).await.unwrap();
    assert_eq!(
        (in_use.len(), &in_use["caller"], &in_use["order"]),
        (2, &modest, &order())
    );
}

#[tokio::test]
async fn whoever_no_longer_sends_what_somebody_expects_is_refused_as_well() {
    let world = World::new().await;
    registry::register(&world.jetstream, "caller", &caller()).await.unwrap();
    let refused = registry::register(&world.jetstream, "order", &order()).await.unwrap();
    assert_eq!(
        sentences(refused, "order"),
        ["order cannot start: it does not send `customer.phone` of OrderPlaced.v1, which caller requires"]
    );
    assert!(registry::retire(&world.jetstream, "caller").await.unwrap());
    assert!(!registry::retire(&world.jetstream, "caller").await.unwrap());
    let registered = registry::register(&world.jetstream, "order", &order()).await.unwrap();
    assert_eq!(registered, Registered::Compatible);
}

#[tokio::test]
async fn a_version_that_somebody_still_needs_cannot_be_dropped() {
    let world = World::new().await;
    let hears = Contract::of(None, [OrderPlaced::TYPE]);
    registry::register(&world.jetstream, "caller", &hears).await.unwrap();
    let mut moved = order();
    let second = moved.emits.remove("OrderPlaced.v1").unwrap();
    moved.emits.insert("OrderPlaced.v2".into(), second.clone());
    let refused = registry::register(&world.jetstream, "order", &moved).await.unwrap();
    assert_eq!(
        sentences(refused, "order"),
        ["order cannot start: it sends OrderPlaced as v2 only, and caller knows v1"]
    );
    moved.emits.insert("OrderPlaced.v1".into(), second);
    let both = registry::register(&world.jetstream, "order", &moved).await.unwrap();
    assert_eq!(both, Registered::Compatible);
}

#[tokio::test]
async fn of_two_that_start_at_once_and_do_not_fit_exactly_one_starts() {
    let world = World::new().await;
    for _ in 0..20 {
        let (order, caller) = (order(), caller());
        let (first, second) = tokio::join!(
            registry::register(&world.jetstream, "order", &order),
            registry::register(&world.jetstream, "caller", &caller),
        );
        let started = [first.unwrap(), second.unwrap()].map(|outcome| outcome == Registered::Compatible);
        assert_ne!(started[0], started[1]);
        let in_use = registry::in_use(&world.jetstream).await.unwrap();
        assert_eq!(
            in_use.keys().collect::<Vec<_>>(),
            [if started[0] { "order" } else { "caller" }]
        );
        registry::retire(&world.jetstream, in_use.keys().next().unwrap())
            .await
            .unwrap();
    }
}

/// A type that has gone its own way from the schema under its name.
#[derive(Serialize, Deserialize)]
struct Misfit {
    order_id: Uuid,
    cause: i64,
}

impl Event for Misfit {
    const TYPE: EventType = InventoryReleased::TYPE;
    fn subject(&self) -> Subject {
        Subject::Order(self.order_id)
    }
}

#[tokio::test]
async fn what_breaks_its_schema_never_enters_the_outbox_of_a_debug_build() {
    let world = World::new().await;
    let decisions = world.replica().await.decisions();
    let order_id = Uuid::now_v7();
    let misfit = move |_: &mut Ledger| ((), Misfit { order_id, cause: 7 });
    let refused = decisions.decide(Touched::order(order_id), misfit).await.unwrap_err();
    assert!(
        matches!(&refused, Undecided::Broken(reason)
        if reason.contains("InventoryReleased.v1 breaks its schema: /cause does not satisfy /properties/cause/type")),
        "{refused}"
    );
    assert_eq!(world.count("select count(*) from outbox").await, 0);
}
