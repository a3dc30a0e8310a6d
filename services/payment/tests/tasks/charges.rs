//! What becomes of a charge, token by token.

use std::time::Duration;

use payment::Patience;
use payment::domain::State;
use serde_json::{Value, json};

use crate::{PATIENCE, Shop};

#[tokio::test]
async fn a_good_card_is_charged() {
    let shop = Shop::open().await;
    let _running = shop.run(PATIENCE);
    let order_id = shop.replica.reserved("pm_card_visa").await;
    shop.until(order_id, State::Succeeded).await;
    assert_eq!(shop.replica.told(order_id).await, ["PaymentSucceeded"]);
    assert_eq!(shop.replica.payment(order_id).await.progress.attempts, 1);
    let told = shop.replica.content(order_id, "PaymentSucceeded").await;
    assert!(told["gateway_ref"].as_str().unwrap().starts_with("pi_"));
    shop.check(order_id).await;
}

#[tokio::test]
async fn a_refused_card_is_declined_with_the_gateways_word() {
    let shop = Shop::open().await;
    let _running = shop.run(PATIENCE);
    for (token, code) in [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_insufficientFunds", "insufficient_funds"),
        ("pm_card_unheardOf", "invalid_payment_method"),
    ] {
        let order_id = shop.replica.reserved(token).await;
        shop.until(order_id, State::Declined).await;
        let told = shop.replica.content(order_id, "PaymentDeclined").await;
        assert_eq!((&told["code"], &told["attempts"]), (&json!(code), &json!(1)));
        shop.check(order_id).await;
    }
}

#[tokio::test]
async fn a_slow_card_is_waited_for() {
    let shop = Shop::open().await;
    let _running = shop.run(PATIENCE);
    let order_id = shop.replica.reserved("pm_card_slow").await;
    shop.until(order_id, State::Succeeded).await;
    assert_eq!(shop.replica.payment(order_id).await.progress.attempts, 1);
    shop.check(order_id).await;
}

#[tokio::test]
async fn a_card_slower_than_our_patience_is_still_charged_once() {
    let shop = Shop::open().await;
    let _running = shop.run(Patience {
        call: Duration::from_secs(1),
        ..PATIENCE
    });
    let order_id = shop.replica.reserved("pm_card_slow").await;
    shop.until(order_id, State::Succeeded).await;
    assert_eq!(shop.replica.told(order_id).await, ["PaymentSucceeded"]);
    shop.check(order_id).await;
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_and_never_charged_again() {
    let shop = Shop::open().await;
    let _running = shop.run(Patience {
        call: Duration::from_millis(500),
        ..PATIENCE
    });
    let order_id = shop.replica.reserved("pm_card_timeoutAfterCharge").await;
    shop.until(order_id, State::Succeeded).await;
    assert_eq!(shop.replica.told(order_id).await, ["PaymentSucceeded"]);
    assert_eq!(shop.replica.payment(order_id).await.progress.attempts, 2);
    shop.check(order_id).await;
}

#[tokio::test]
async fn a_flaky_card_is_tried_until_it_pays() {
    let shop = Shop::open().await;
    let _running = shop.run(PATIENCE);
    let order_id = shop.replica.reserved("pm_card_flaky").await;
    shop.until(order_id, State::Succeeded).await;
    assert_eq!(shop.replica.payment(order_id).await.progress.attempts, 3);
    shop.check(order_id).await;
}

#[tokio::test]
async fn two_replicas_charge_three_hundred_payments_once_each() {
    let shop = Shop::open().await;
    let _running = [shop.run(PATIENCE), shop.run(PATIENCE)];
    let orders = futures_util::future::join_all((0..300).map(|_| shop.replica.reserved("pm_card_visa"))).await;
    for order_id in &orders {
        shop.until(*order_id, State::Succeeded).await;
        assert_eq!(shop.replica.told(*order_id).await, ["PaymentSucceeded"]);
    }
    let listed: Value = reqwest::get(format!("{}/v1/charges", shop.sandbox.url()))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(listed["data"].as_array().unwrap().len(), orders.len());
    shop.replica.check_the_books().await;
}
