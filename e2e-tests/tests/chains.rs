//! Every chain of `events.md` but returns, through the shared shop.

use e2e_tests::{Service, Wish, World, run};
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

/// Names that must appear in this order; others may stand between them.
fn assert_told(timeline: &[String], expected: &[&str]) {
    let mut told = timeline.iter();
    for name in expected {
        assert!(
            told.any(|event| event == name),
            "{name} is missing, or out of place, in {timeline:?}"
        );
    }
}

/// Every event follows from one that the timeline shows; only what somebody asked for has no cause.
async fn assert_caused(world: &World, id: Uuid) {
    let timeline = world
        .get(Service::Order, &format!("/v1/orders/{id}/timeline"))
        .await
        .unwrap_or_default();
    let items = timeline["items"].as_array().cloned().unwrap_or_default();
    assert!(!items.is_empty());
    for item in items
        .iter()
        .filter(|item| !ASKED_FOR.contains(&item["type"].as_str().unwrap_or_default()))
    {
        let cause = items.iter().find(|other| other["event_id"] == item["causation_id"]);
        assert!(cause.is_some(), "{item} follows from nothing");
    }
}

const ASKED_FOR: [&str; 2] = ["OrderPlaced", "OrderCancellationRequested"];

fn ended(order: &Value) -> (&str, Option<&str>) {
    (order["state"].as_str().unwrap_or_default(), order["reason"].as_str())
}

async fn payment(world: &World, id: Uuid) -> Value {
    world
        .get(Service::Payment, &format!("/v1/payments/{id}"))
        .await
        .unwrap_or_default()
}

async fn reservation(world: &World, id: Uuid) -> Value {
    world
        .get(Service::Inventory, &format!("/v1/reservations/{id}"))
        .await
        .unwrap_or_default()
}

#[test]
fn a_paid_order_is_shipped_and_completed_with_two_mails() {
    run(async {
        let world = World::shared().await;
        let id = world.place(&Wish::of("TEA-ASSAM").pieces(2)).await;
        let order = world.ended(id).await;
        assert_eq!(ended(&order), ("COMPLETED", None));
        assert_eq!(order["stock_check"], "passed");
        let chain = [
            "OrderPlaced",
            "InventoryReserved",
            "PaymentSucceeded",
            "OrderConfirmed",
            "ShipmentScheduled",
            "OrderShipped",
            "OrderDelivered",
            "OrderCompleted",
        ];
        assert_told(&world.timeline(id).await, &chain);
        let payment = payment(world, id).await;
        assert_eq!(
            (&payment["state"], &payment["captured"], &payment["refunded"]),
            (&json!("SUCCEEDED"), &order["total"], &json!(0))
        );
        assert_eq!(reservation(world, id).await["state"], "COMMITTED");
        assert_caused(world, id).await;
        let path = format!("/v1/messages?order_id={id}");
        let mails = world.until("both mails are sent", || async {
            let mails = world.get(Service::Email, &path).await?;
            let sent = mails["items"].as_array().cloned().unwrap_or_default();
            Ok((sent.len() == 2 && sent.iter().all(|mail| mail["sent_at"].is_string())).then_some(sent))
        });
        let mut templates: Vec<String> = mails
            .await
            .unwrap_or_default()
            .iter()
            .map(|mail| mail["template"].to_string())
            .collect();
        templates.sort();
        assert_eq!(templates, ["\"order_confirmed\"", "\"order_shipped\""]);
    });
}

#[test]
fn an_order_that_cannot_be_reserved_is_cancelled_before_anybody_is_charged() {
    run(async {
        let world = World::shared().await;
        // Two customers who both saw the last pieces: the saga decides.
        let wish = Wish::of("TEA-OOLONG").pieces(600);
        let (one, other) = futures_util::future::join(world.place(&wish), world.order_once(&wish)).await;
        let second = other
            .map(|(_, body)| body["id"].as_str().and_then(|id| id.parse::<Uuid>().ok()))
            .ok()
            .flatten();
        let mut ends = vec![ended(&world.ended(one).await).0.to_owned()];
        if let Some(second) = second {
            let order = world.ended(second).await;
            ends.push(ended(&order).0.to_owned());
            for id in [one, second] {
                if world.order(id).await.unwrap_or_default()["state"] == "CANCELLED" {
                    assert_eq!(world.order(id).await.unwrap_or_default()["reason"], "OUT_OF_STOCK");
                    assert_told(
                        &world.timeline(id).await,
                        &["OrderPlaced", "InventoryRejected", "OrderCancelled"],
                    );
                    assert_eq!(payment(world, id).await["status"], 404, "payment is never asked");
                }
            }
        }
        assert_eq!(ends.iter().filter(|end| *end == "COMPLETED").count(), 1, "{ends:?}");
        // From now on the check at the door refuses what is plainly too much.
        let (status, problem) = world.order_once(&wish).await.unwrap_or_default();
        let refusal = (status, problem["type"].as_str());
        assert_eq!(refusal, (StatusCode::CONFLICT, Some("/problems/out-of-stock")));
    });
}

#[test]
fn a_declined_payment_releases_the_stock_and_cancels() {
    run(async {
        let world = World::shared().await;
        for card in ["pm_card_chargeDeclined", "pm_card_insufficientFunds"] {
            let id = world.place(&Wish::of("TEA-DARJEELING").paid_by(card)).await;
            assert_eq!(
                ended(&world.ended(id).await),
                ("CANCELLED", Some("PAYMENT_DECLINED")),
                "{card}"
            );
            let chain = [
                "OrderPlaced",
                "InventoryReserved",
                "PaymentDeclined",
                "InventoryReleased",
                "OrderCancelled",
            ];
            assert_told(&world.timeline(id).await, &chain);
            assert_eq!(payment(world, id).await["captured"], 0);
            assert_eq!(reservation(world, id).await["state"], "RELEASED");
        }
    });
}

#[test]
fn a_gateway_that_stays_down_times_the_payment_out() {
    run(async {
        let world = World::shared().await;
        let id = world.place(&Wish::of("TEA-SENCHA").paid_by("pm_card_down")).await;
        assert_eq!(ended(&world.ended(id).await), ("CANCELLED", Some("PAYMENT_TIMED_OUT")));
        assert_told(
            &world.timeline(id).await,
            &[
                "InventoryReserved",
                "PaymentTimedOut",
                "InventoryReleased",
                "OrderCancelled",
            ],
        );
        assert_eq!(payment(world, id).await["captured"], 0);
    });
}

/// Row 28 of the failure table.
#[test]
fn a_charge_whose_answer_was_lost_is_found_and_not_made_again() {
    run(async {
        let world = World::shared().await;
        let id = world
            .place(&Wish::of("TEA-GENMAICHA").paid_by("pm_card_timeoutAfterCharge"))
            .await;
        assert_eq!(ended(&world.ended(id).await), ("COMPLETED", None));
        let url = format!("{}/v1/charges?order_id={id}", world.shop.gateway_url());
        let book: Value = match world.http.get(url).send().await {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(book["data"].as_array().map(Vec::len), Some(1), "{book}");
    });
}

#[test]
fn a_flaky_or_slow_gateway_only_takes_longer() {
    run(async {
        let world = World::shared().await;
        for card in ["pm_card_flaky", "pm_card_slow"] {
            let id = world.place(&Wish::of("TEA-ROOIBOS").paid_by(card)).await;
            assert_eq!(ended(&world.ended(id).await), ("COMPLETED", None), "{card}");
        }
    });
}

#[test]
fn an_undeliverable_order_is_refunded_released_and_cancelled() {
    run(async {
        let world = World::shared().await;
        let id = world.place(&Wish::of("TEA-EARLGREY").to("XX")).await;
        assert_eq!(ended(&world.ended(id).await), ("CANCELLED", Some("SHIPPING_FAILED")));
        let chain = [
            "PaymentSucceeded",
            "OrderConfirmed",
            "ShipmentFailed",
            "PaymentRefunded",
            "InventoryReleased",
            "OrderCancelled",
        ];
        assert_told(&world.timeline(id).await, &chain);
        let payment = payment(world, id).await;
        assert_eq!(
            (&payment["state"], &payment["captured"]),
            (&json!("REFUNDED"), &payment["refunded"])
        );
        assert_caused(world, id).await;
    });
}

/// The customer changes their mind at every stage. Services stand still so that the stage is certain.
#[test]
fn an_order_can_be_cancelled_at_every_stage_before_it_is_shipped() {
    run(async {
        let world = World::open(&[(Service::Warehouse, "WAREHOUSE_AUTO", "false")]).await;
        let wish = Wish::of("TEA-ASSAM");
        let chain = ["OrderCancellationRequested", "ShipmentCancelled"];

        world
            .shop
            .pause(Service::Inventory)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let before_reservation = world.place(&wish).await;
        cancel(&world, before_reservation).await;
        world
            .shop
            .resume(Service::Inventory)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));

        world
            .shop
            .pause(Service::Payment)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let before_payment = world.place(&wish).await;
        world.reached(before_payment, "RESERVED").await;
        cancel(&world, before_payment).await;
        world
            .shop
            .resume(Service::Payment)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));

        let after_payment = world.place(&wish).await;
        world.reached(after_payment, "CONFIRMED").await;
        cancel(&world, after_payment).await;

        // Who stood still may hear the order or the wish first: charged and refunded, or never charged.
        let either = ["PaymentVoided", "PaymentRefunded"];
        for (id, undone) in [
            (before_reservation, &either[..]),
            (before_payment, &either[..]),
            (after_payment, &either[1..]),
        ] {
            let order = world.ended(id).await;
            assert_eq!(
                ended(&order),
                ("CANCELLED", Some("REQUESTED_BY_CUSTOMER")),
                "{undone:?}"
            );
            let told = world.timeline(id).await;
            let undone = undone.iter().find(|name| told.iter().any(|event| event == *name));
            let undone = undone.copied().unwrap_or("PaymentVoided or PaymentRefunded");
            assert_told(
                &told,
                &[chain[0], chain[1], undone, "InventoryReleased", "OrderCancelled"],
            );
            let (status, _) = world.cancel(id).await.unwrap_or_default();
            assert_eq!(status, StatusCode::OK, "it is cancelled already");
        }
        world.audit().await;
    });
}

async fn cancel(world: &World, id: Uuid) {
    let (status, order) = world.cancel(id).await.unwrap_or_default();
    assert_eq!(
        (status, &order["state"]),
        (StatusCode::ACCEPTED, &json!("CANCELLING")),
        "{order}"
    );
}

#[test]
fn a_shipped_order_is_not_cancellable_and_a_wish_that_crosses_the_parcel_is_rejected() {
    run(async {
        let world = World::open(&[(Service::Warehouse, "WAREHOUSE_AUTO", "false")]).await;
        let id = world.place(&Wish::of("TEA-ASSAM")).await;
        world.reached(id, "CONFIRMED").await;
        let dispatch = format!("{}/v1/shipments/{id}/dispatch", world.shop.url(Service::Warehouse));
        world
            .until("the shipment can be dispatched", || async {
                Ok(world
                    .http
                    .post(&dispatch)
                    .send()
                    .await?
                    .status()
                    .is_success()
                    .then_some(()))
            })
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        world.reached(id, "SHIPPED").await;
        let (status, problem) = world.cancel(id).await.unwrap_or_default();
        assert_eq!(
            (status, problem["type"].as_str()),
            (StatusCode::CONFLICT, Some("/problems/order-not-cancellable"))
        );

        // Now the two cross: the warehouse ships while it cannot hear the wish.
        let crossed = world.place(&Wish::of("TEA-ASSAM")).await;
        world.reached(crossed, "CONFIRMED").await;
        let shipment = format!("/v1/shipments/{crossed}");
        world
            .until("the warehouse knows the order", || async {
                Ok((world.get(Service::Warehouse, &shipment).await?["state"] == "SCHEDULED").then_some(()))
            })
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        world
            .shop
            .pause(Service::Order)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let dispatched = world
            .http
            .post(format!("{}{shipment}/dispatch", world.shop.url(Service::Warehouse)))
            .send()
            .await;
        assert!(dispatched.is_ok_and(|answer| answer.status().is_success()));
        let cancel = world
            .http
            .post(format!("{}/v1/orders/{crossed}/cancel", world.shop.url(Service::Order)))
            .send();
        let resume = world.shop.resume(Service::Order);
        let (answer, resumed) = futures_util::future::join(cancel, resume).await;
        assert!(resumed.is_ok());
        // Whether the wish or the parcel was heard of first, the order ends shipped, never cancelled.
        let status = answer.map(|answer| answer.status());
        assert!(
            matches!(status, Ok(StatusCode::ACCEPTED | StatusCode::CONFLICT)),
            "{status:?}"
        );
        world.reached(crossed, "SHIPPED").await;
        let deliver = format!("{}{shipment}/deliver", world.shop.url(Service::Warehouse));
        assert!(
            world
                .http
                .post(deliver)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
        );
        assert_eq!(ended(&world.ended(crossed).await), ("COMPLETED", None));
        if matches!(status, Ok(StatusCode::ACCEPTED)) {
            let told = world.until("the rejection is told", || async {
                let told = world.timeline(crossed).await;
                Ok(told.contains(&"ShipmentCancelRejected".to_owned()).then_some(()))
            });
            told.await.unwrap_or_else(|error| panic!("{error:#}"));
        }
    });
}

/// Row 33 of the failure table: nobody answers, and the deadline in the database resolves the saga.
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

#[test]
fn a_repeated_request_with_one_key_is_one_order() {
    run(async {
        let world = World::shared().await;
        let wish = Wish::of("TEA-JASMINE").key("once");
        let answers = futures_util::future::join_all((0..20).map(|_| world.order_once(&wish))).await;
        let mut ids: Vec<String> = answers
            .iter()
            .map(|answer| {
                answer
                    .as_ref()
                    .map_or_else(|e| e.to_string(), |(_, body)| body["id"].to_string())
            })
            .collect();
        ids.dedup();
        assert_eq!(ids.len(), 1, "{ids:?}");
    });
}
