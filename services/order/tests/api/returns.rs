//! Asking for goods to be taken back, and following what becomes of it.

use axum::http::StatusCode;
use chrono::Utc;
use messaging::Touched;
use order::domain::Orders;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Shop, wish};

/// An order of two packets of tea that has arrived.
async fn delivered(shop: &Shop) -> Uuid {
    let placed = shop.post("/v1/orders", &wish(), None).await;
    let id: Uuid = placed.body["id"].as_str().unwrap().parse().unwrap();
    let arrive = move |orders: &mut Orders| {
        let order = orders.orders.get_mut(&id).unwrap();
        let told = order.learn(|facts| {
            facts.paid = Some(Uuid::nil());
            facts.committed = true;
            facts.delivered = Some(Utc::now());
        });
        ((), told)
    };
    shop.decisions.decide(Touched::order(id), arrive).await.unwrap();
    id
}

fn lines(quantity: i64) -> Value {
    json!({ "lines": [{ "sku": "tea", "quantity": quantity }], "reason": "too hot" })
}

#[tokio::test]
async fn a_return_is_accepted_told_once_and_shown() {
    let shop = Shop::open().await;
    let id = delivered(&shop).await;
    let told = shop.count("outbox").await;
    let asked = shop.post(&format!("/v1/orders/{id}/returns"), &lines(1), None).await;
    assert_eq!(
        (asked.status, &asked.body["state"]),
        (StatusCode::ACCEPTED, &json!("REQUESTED")),
        "{}",
        asked.body
    );
    assert_eq!(
        (&asked.body["amount"], &asked.body["refunded"]),
        (&json!(250), &json!(0))
    );
    assert_eq!(shop.count("outbox").await, told + 1);
    let shown = shop.get(&asked.headers["location"]).await;
    assert_eq!((shown.status, &shown.body), (StatusCode::OK, &asked.body));
    assert_eq!(shop.get(&format!("/v1/orders/{id}")).await.body["state"], "RETURNING");
    let listed = shop.get(&format!("/v1/orders/{id}/returns")).await;
    assert_eq!(listed.body["items"], json!([asked.body]));
}

#[tokio::test]
async fn a_repeated_request_under_a_key_is_the_same_return() {
    let shop = Shop::open().await;
    let id = delivered(&shop).await;
    let path = format!("/v1/orders/{id}/returns");
    let first = shop.post(&path, &lines(1), Some("key")).await;
    let told = shop.count("outbox").await;
    let again = shop.post(&path, &lines(1), Some("key")).await;
    assert_eq!((again.status, &again.body), (StatusCode::ACCEPTED, &first.body));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other = shop.post(&path, &lines(2), Some("key")).await;
    assert_eq!(
        (other.status, &other.body["type"]),
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            &json!("/problems/idempotency-key-reused")
        )
    );
    assert_eq!(shop.count("outbox").await, told);
    let second = shop.post(&path, &lines(1), Some("another")).await;
    assert_ne!(second.body["return_id"], first.body["return_id"]);
}

#[tokio::test]
async fn what_cannot_come_back_is_refused_and_nothing_is_told() {
    let shop = Shop::open().await;
    let placed = shop.post("/v1/orders", &wish(), None).await;
    let early = placed.body["id"].as_str().unwrap().to_owned();
    let id = delivered(&shop).await;
    let told = shop.count("outbox").await;
    let strange = json!({ "lines": [{ "sku": "unicorn", "quantity": 1 }] });
    let cases = [
        (early.clone(), lines(1), StatusCode::CONFLICT, "order-not-returnable"),
        (id.to_string(), lines(3), StatusCode::CONFLICT, "return-exceeds-order"),
        (
            id.to_string(),
            lines(0),
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-request",
        ),
        (
            id.to_string(),
            json!({ "lines": [] }),
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-request",
        ),
        (
            id.to_string(),
            strange,
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-request",
        ),
        (Uuid::now_v7().to_string(), lines(1), StatusCode::NOT_FOUND, "not-found"),
    ];
    for (order, body, status, kind) in cases {
        let refused = shop.post(&format!("/v1/orders/{order}/returns"), &body, None).await;
        assert_eq!(refused.status, status, "{kind}: {}", refused.body);
        if status == StatusCode::CONFLICT {
            assert_eq!(refused.body["type"], format!("/problems/{kind}"));
        }
    }
    let nobodys = shop.get(&format!("/v1/orders/{id}/returns/{}", Uuid::now_v7())).await;
    assert_eq!(nobodys.status, StatusCode::NOT_FOUND);
    assert_eq!(shop.count("outbox").await, told);
}

/// Both are taken at the same moment; together they would be one piece too many.
#[tokio::test]
async fn returns_that_race_never_name_more_than_was_bought() {
    let shop = Shop::open().await;
    let id = delivered(&shop).await;
    let (path, body) = (format!("/v1/orders/{id}/returns"), lines(1));
    let racing = (0..8).map(|_| shop.post(&path, &body, None));
    let answers = futures_util::future::join_all(racing).await;
    let accepted = answers.iter().filter(|answer| answer.status == StatusCode::ACCEPTED);
    assert_eq!(accepted.count(), 2);
    assert!(
        answers
            .iter()
            .all(|answer| [StatusCode::ACCEPTED, StatusCode::CONFLICT].contains(&answer.status))
    );
}
