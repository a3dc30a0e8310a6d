//! Orders that are undone before, during and after the charge.

use std::time::Duration;

use events::derive_id;
use messaging::Errand;
use payment::Patience;
use payment::domain::State;
use serde_json::json;

use crate::{PATIENCE, Shop};

#[tokio::test]
async fn an_undo_while_a_slow_charge_is_under_way_is_paid_back_and_never_succeeds() {
    let shop = Shop::open().await;
    let _running = shop.run(PATIENCE);
    let order_id = shop.replica.reserved("pm_card_slow").await;
    shop.until_attempt(order_id, 1).await;
    shop.replica.cancel(order_id).await;
    assert!(shop.replica.told(order_id).await.is_empty());
    shop.until(order_id, State::Refunded).await;
    assert_eq!(shop.replica.told(order_id).await, ["PaymentRefunded"]);
    assert_eq!(
        shop.replica.content(order_id, "PaymentRefunded").await["cause"],
        "ORDER_CANCELLED"
    );
    shop.check(order_id).await;
}

#[tokio::test]
async fn an_undo_after_we_lost_patience_with_a_slow_charge_is_not_answered_too_soon() {
    let shop = Shop::open().await;
    let patience = Patience {
        call: Duration::from_millis(500),
        settles_within: Duration::from_secs(4),
        ..PATIENCE
    };
    let _running = shop.run(patience);
    let order_id = shop.replica.reserved("pm_card_slow").await;
    shop.until_attempt(order_id, 1).await;
    shop.replica.cancel(order_id).await;
    shop.until(order_id, State::Refunded).await;
    assert_eq!(shop.replica.told(order_id).await, ["PaymentRefunded"]);
    shop.check(order_id).await;
}

#[tokio::test]
async fn an_undo_of_a_charge_that_keeps_failing_is_void() {
    let shop = Shop::open().await;
    let _running = shop.run(PATIENCE);
    let order_id = shop.replica.reserved("pm_card_down").await;
    shop.until_attempt(order_id, 1).await;
    shop.replica.cancel(order_id).await;
    shop.until(order_id, State::Voided).await;
    assert_eq!(shop.replica.told(order_id).await, ["PaymentVoided"]);
    shop.check(order_id).await;
}

#[tokio::test]
async fn a_worker_that_comes_back_after_the_undo_pays_back_what_it_finds_charged() {
    let shop = Shop::open().await;
    let patience = Patience {
        settles_within: Duration::from_millis(10),
        ..PATIENCE
    };
    let order_id = shop.replica.reserved("pm_card_visa").await;
    let (charge, _) = shop.errands(patience);
    let stopped = shop.take(&charge).await;
    shop.replica.cancel(order_id).await;
    let undo = shop.replica.asked_by_an_event(order_id).await;
    for _ in 0..2 {
        charge.perform(shop.take(&charge).await).await.unwrap();
    }
    assert_eq!(shop.replica.told(order_id).await, ["PaymentVoided"]);
    assert_eq!(shop.replica.cause(order_id, "PaymentVoided").await, Some(undo));
    charge.perform(stopped).await.unwrap();
    let _running = shop.run(patience);
    shop.until(order_id, State::Refunded).await;
    assert_eq!(shop.replica.told(order_id).await, ["PaymentVoided", "PaymentRefunded"]);
    assert_eq!(
        shop.replica.content(order_id, "PaymentRefunded").await["cause"],
        "CHARGED_TOO_LATE"
    );
    shop.check(order_id).await;
}

#[tokio::test]
async fn a_refund_is_tried_until_the_gateway_takes_it() {
    let shop = Shop::open().await;
    shop.sandbox.refunds("refuse").await;
    let _running = shop.run(PATIENCE);
    let order_id = shop.replica.reserved("pm_card_visa").await;
    shop.until(order_id, State::Succeeded).await;
    shop.replica.fail_shipment(order_id).await.unwrap();
    let refused = async { while shop.replica.payment(order_id).await.progress.refund_attempts < 3 {} };
    tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
    assert_eq!(shop.replica.payment(order_id).await.state, State::Refunding);
    shop.sandbox.refunds("accept").await;
    shop.until(order_id, State::Refunded).await;
    assert_eq!(
        shop.replica.told(order_id).await,
        ["PaymentSucceeded", "PaymentRefunded"]
    );
    let told = shop.replica.content(order_id, "PaymentRefunded").await;
    assert_eq!(
        (&told["amount"], &told["cause"]),
        (&json!(2_500), &json!("SHIPPING_FAILED"))
    );
    assert_eq!(told["refund_id"], json!(derive_id(order_id, "refund")));
    shop.check(order_id).await;
}
