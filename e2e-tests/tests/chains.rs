//! Every chain of `events.md` but returns, through the shared shop.

use e2e_tests::{Service, Wish, World, run};

use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::looks::{assert_caused, assert_told, ended, payment, reservation};

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

/// Row 28: a charge whose answer was lost is found at the gateway, and not made again.
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

/// Row 29: twenty requests at once under one key are one order.
#[test]
fn a_repeated_request_with_one_key_is_one_order() {
    run(async {
        let world = World::shared().await;
        let wish = Wish::of("TEA-JASMINE").key("once");
        let answers = futures_util::future::join_all((0..20).map(|_| world.order_once(&wish))).await;
        let afterwards = world.order_once(&wish).await;
        let mut ids = Vec::new();
        for answer in answers.into_iter().chain([afterwards]) {
            match answer.unwrap_or_else(|error| panic!("{error:#}")) {
                (status, body) if status == 409 => {
                    assert_eq!(body["type"], "/problems/idempotency-key-in-flight", "{body}");
                }
                (_, body) => ids.push(body["id"].to_string()),
            }
        }
        ids.dedup();
        assert_eq!(ids.len(), 1, "{ids:?}");
    });
}
