//! Orders that are called off: by the customer at every stage, or by their deadline.

use e2e_tests::{Service, Wish, World, run};
use reqwest::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::looks::{assert_told, ended};

/// Row 32: an order that is called off before, while or after it is charged ends with nothing charged or everything
/// refunded.
///
/// Services stand still so that the stage is certain.
#[test]
fn an_order_can_be_cancelled_at_every_stage_before_it_is_shipped() {
    run(async {
        let world = World::open(&[(Service::Warehouse, "WAREHOUSE_AUTO", "false")]).await;
        let before_reservation = cancelled_while_it_stands_still(&world, Service::Inventory, "PENDING").await;
        let before_payment = cancelled_while_it_stands_still(&world, Service::Payment, "RESERVED").await;
        let after_payment = world.place(&Wish::of("TEA-ASSAM")).await;
        world.reached(after_payment, "CONFIRMED").await;
        cancel(&world, after_payment).await;

        // Who stood still may hear the order or the wish first: charged and refunded, or never charged.
        let either = ["PaymentVoided", "PaymentRefunded"];
        assert_undone(&world, before_reservation, &either).await;
        assert_undone(&world, before_payment, &either).await;
        assert_undone(&world, after_payment, &either[1..]).await;
        world.audit().await;
    });
}

/// Places an order and cancels it in this state, which it cannot leave meanwhile.
async fn cancelled_while_it_stands_still(world: &World, service: Service, state: &str) -> Uuid {
    world
        .shop
        .pause(service)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    let id = world.place(&Wish::of("TEA-ASSAM")).await;
    world.reached(id, state).await;
    cancel(world, id).await;
    world
        .shop
        .resume(service)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    id
}

async fn cancel(world: &World, id: Uuid) {
    let (status, order) = world.cancel(id).await.unwrap_or_default();
    let accepted = (StatusCode::ACCEPTED, &json!("CANCELLING"));
    assert_eq!((status, &order["state"]), accepted, "{order}");
}

async fn assert_undone(world: &World, id: Uuid, undone: &[&'static str]) {
    let order = world.ended(id).await;
    assert_eq!(
        ended(&order),
        ("CANCELLED", Some("REQUESTED_BY_CUSTOMER")),
        "{undone:?}"
    );
    let told = world.timeline(id).await;
    let found = undone.iter().find(|name| told.iter().any(|event| event == *name));
    let undone = found.copied().unwrap_or(undone[0]);
    let chain = [
        "OrderCancellationRequested",
        "ShipmentCancelled",
        undone,
        "InventoryReleased",
        "OrderCancelled",
    ];
    assert_told(&told, &chain);
    let (status, _) = world.cancel(id).await.unwrap_or_default();
    assert_eq!(status, StatusCode::OK, "it is cancelled already");
}

/// Tells the warehouse by hand what to do with the parcel, once it knows of it.
async fn by_hand(world: &World, id: Uuid, what: &str) {
    let path = format!("{}/v1/shipments/{id}/{what}", world.shop.url(Service::Warehouse));
    let done = world.until("the warehouse has done it", || async {
        Ok(world.http.post(&path).send().await?.status().is_success().then_some(()))
    });
    done.await.unwrap_or_else(|error| panic!("{error:#}"));
}

async fn known_to_the_warehouse(world: &World, id: Uuid) {
    let path = format!("{}/v1/shipments/{id}", world.shop.url(Service::Warehouse));
    let known = world.until("the warehouse knows of the parcel", || async {
        Ok(world.http.get(&path).send().await?.status().is_success().then_some(()))
    });
    known.await.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn a_shipped_order_is_not_cancellable() {
    run(async {
        let world = World::open(&[(Service::Warehouse, "WAREHOUSE_AUTO", "false")]).await;
        let id = world.place(&Wish::of("TEA-ASSAM")).await;
        by_hand(&world, id, "dispatch").await;
        world.reached(id, "SHIPPED").await;
        let (status, problem) = world.cancel(id).await.unwrap_or_default();
        let refusal = (status, problem["type"].as_str());
        assert_eq!(refusal, (StatusCode::CONFLICT, Some("/problems/order-not-cancellable")));
    });
}

/// The warehouse ships while order stands still, and order hears the wish before it hears of the parcel, or after.
#[test]
fn a_wish_to_cancel_that_crosses_the_parcel_is_rejected() {
    run(async {
        let world = World::open(&[(Service::Warehouse, "WAREHOUSE_AUTO", "false")]).await;
        let id = world.place(&Wish::of("TEA-ASSAM")).await;
        // Or else nobody would tell it of the order any more.
        known_to_the_warehouse(&world, id).await;
        let stood_still = world.shop.pause(Service::Order).await;
        stood_still.unwrap_or_else(|error| panic!("{error:#}"));
        by_hand(&world, id, "dispatch").await;
        let (answer, resumed) = futures_util::future::join(world.cancel(id), world.shop.resume(Service::Order)).await;
        resumed.unwrap_or_else(|error| panic!("{error:#}"));
        let (status, body) = answer.unwrap_or_else(|error| panic!("{error:#}"));
        assert!(
            matches!(status, StatusCode::ACCEPTED | StatusCode::CONFLICT),
            "{status}: {body}"
        );

        world.reached(id, "SHIPPED").await;
        by_hand(&world, id, "deliver").await;
        assert_eq!(ended(&world.ended(id).await), ("COMPLETED", None));
        if status == StatusCode::ACCEPTED {
            let told = world.until("the rejection is told", || async {
                let told = world.timeline(id).await;
                Ok(told.contains(&"ShipmentCancelRejected".to_owned()).then_some(()))
            });
            told.await.unwrap_or_else(|error| panic!("{error:#}"));
        }
    });
}

/// Row 33: when nobody answers, the deadline in the database resolves the saga.
#[test]
fn an_overdue_order_is_given_up_and_undone() {
    run(async {
        let world = World::open(&[(Service::Order, "ORDER_PAY_WITHIN_MS", "1500")]).await;
        world
            .shop
            .pause(Service::Payment)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let id = world.place(&Wish::of("TEA-ASSAM")).await;
        let order = world.reached(id, "CANCELLING").await;
        assert_eq!(order["reason"], "DEADLINE_EXCEEDED");
        world
            .shop
            .resume(Service::Payment)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(ended(&world.ended(id).await), ("CANCELLED", Some("DEADLINE_EXCEEDED")));
        world.audit().await;
    });
}
