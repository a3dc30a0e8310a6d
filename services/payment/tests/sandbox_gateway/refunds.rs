//! How money goes back.

use reqwest::StatusCode;

use crate::gateway::{Answer, Folder, Gateway, send, text};

#[tokio::test]
async fn never_refunds_more_than_it_charged() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let paid = send(gateway.pay("pm_card_visa", "order")).await;
    let intent = text(&paid.body, "/id");
    let part = gateway.refund(intent, "part", "1000").await;
    assert_eq!(
        (part.status, text(&part.body, "/status")),
        (StatusCode::OK, "succeeded")
    );
    assert_eq!(
        gateway.refund(intent, "part", "1000").await,
        Answer {
            replayed: true,
            ..part.clone()
        }
    );
    let seen = send(gateway.get(&format!("/v1/refunds/{}", text(&part.body, "/id")))).await;
    assert_eq!(seen.body, part.body);
    let too_much = gateway.refund(intent, "too much", "1501").await;
    assert_eq!(
        (too_much.status, text(&too_much.body, "/error/param")),
        (StatusCode::BAD_REQUEST, "amount")
    );

    let keys: Vec<String> = (0..20).map(|n| format!("rest-{n}")).collect();
    let rests = futures_util::future::join_all(keys.iter().map(|key| gateway.refund(intent, key, "1500"))).await;
    assert_eq!(rests.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
    let nothing_left = gateway.refund(intent, "more", "1").await;
    assert_eq!(text(&nothing_left.body, "/error/code"), "charge_already_refunded");
    assert_eq!(gateway.charges("").await[0]["refunded"], 2500);
    assert_eq!(
        send(gateway.pay("pm_card_visa", "order")).await.body,
        paid.body,
        "a replay tells what was answered then"
    );

    let declined = send(gateway.pay("pm_card_chargeDeclined", "poor")).await;
    let refused = gateway
        .refund(text(&declined.body, "/error/payment_intent/id"), "none", "1")
        .await;
    assert_eq!(
        (refused.status, text(&refused.body, "/error/param")),
        (StatusCode::BAD_REQUEST, "payment_intent")
    );
    assert_eq!(
        gateway.refund("pi_nobody", "nobody", "1").await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn refuses_refunds_while_switched_off() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let paid = send(gateway.pay("pm_card_visa", "order")).await;
    let intent = text(&paid.body, "/id");
    let switch = async |mode| switched(&gateway, mode).await;
    assert_eq!(switch("refuse").await, StatusCode::NO_CONTENT);
    assert_eq!(
        gateway.refund(intent, "back", "2500").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(gateway.charges("").await[0]["refunded"], 0);
    assert_eq!(switch("accept").await, StatusCode::NO_CONTENT);
    assert_eq!(gateway.refund(intent, "back", "2500").await.status, StatusCode::OK);
    assert_eq!(switch("maybe").await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_refusal_is_repeated_under_its_key_and_forgotten_under_another() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let paid = send(gateway.pay("pm_card_visa", "order")).await;
    let intent = text(&paid.body, "/id");
    switched(&gateway, "reject").await;
    let refused = gateway.refund(intent, "back", "2500").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    switched(&gateway, "accept").await;
    assert_eq!(gateway.refund(intent, "back", "2500").await, refused);
    assert_eq!(
        gateway.refund(intent, "back again", "2500").await.status,
        StatusCode::OK
    );
}

async fn switched(gateway: &Gateway, mode: &str) -> StatusCode {
    let url = format!("{}/sandbox/refunds/{mode}", gateway.url);
    gateway.http.post(url).send().await.unwrap().status()
}
