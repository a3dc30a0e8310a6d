//! The returns desk, by hand and unasked.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use events::{Line, OrderReturnRequested};
use messaging::{Envelope, Touched};
use serde_json::{Value, json};
use telemetry::TraceContext;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use warehouse::domain::Warehouse;
use warehouse::reactions;
use warehouse::tasks::TakeBack;

use crate::Api;

impl Api {
    /// Three packets of tea are announced, twice.
    async fn announced(&self) -> OrderReturnRequested {
        let line = Line {
            sku: "tea".into(),
            name: "Tea".into(),
            quantity: 3,
            unit_price: 250,
        };
        let announced = OrderReturnRequested {
            order_id: Uuid::now_v7(),
            return_id: Uuid::now_v7(),
            lines: vec![line],
            reason: "too hot".into(),
        };
        for _ in 0..2 {
            let (known, envelope) = (announced.clone(), envelope(announced.order_id));
            let announce = move |warehouse: &mut Warehouse| ((), reactions::announce(warehouse, &known, &envelope));
            let touched = Touched::order(announced.order_id);
            self.decisions.decide(touched, announce).await.unwrap();
        }
        announced
    }

    async fn desk(&self, id: Uuid, what: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = Request::post(format!("/v1/returns/{id}/{what}"));
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.send(request.unwrap()).await
    }
}

fn envelope(order_id: Uuid) -> Envelope {
    Envelope {
        event_id: Uuid::now_v7(),
        event_type: "shop.order.OrderReturnRequested.v1".into(),
        subject: order_id.to_string(),
        sequence: 1,
        correlation_id: order_id.to_string(),
        causation_id: None,
        occurred_at: chrono::DateTime::UNIX_EPOCH,
        trace: TraceContext::NONE,
    }
}

#[tokio::test]
async fn goods_are_received_in_the_condition_they_are_in_and_paid_back_whatever_it_is() {
    let api = Api::start().await;
    let announced = api.announced().await;
    let line = |quantity, condition| json!({ "sku": "tea", "quantity": quantity, "condition": condition });
    for wrong in [vec![line(2, "damaged")], vec![line(3, "lost")], vec![]] {
        let (status, body) = api
            .desk(announced.return_id, "receive", Some(json!({ "lines": wrong })))
            .await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    }
    let found = json!([line(1, "damaged"), line(2, "resellable")]);
    let (status, shown) = api
        .desk(announced.return_id, "receive", Some(json!({ "lines": found })))
        .await;
    assert_eq!(
        (status, &shown["state"], &shown["refundable"]),
        (StatusCode::OK, &json!("RECEIVED"), &json!(750))
    );
    let event = api.event(announced.order_id, "ReturnReceived").await;
    assert_eq!((&event["lines"], &event["refundable"]), (&found, &json!(750)));
    assert_eq!(
        api.desk(announced.return_id, "receive", None).await,
        (StatusCode::OK, shown)
    );
    let (status, problem) = api.desk(announced.return_id, "reject", None).await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::CONFLICT, &json!("/problems/return-not-in-state"))
    );
    assert_eq!(api.told(announced.order_id).await, ["ReturnReceived"]);
}

#[tokio::test]
async fn goods_that_are_refused_are_never_paid_back() {
    let api = Api::start().await;
    let announced = api.announced().await;
    let (status, shown) = api.desk(announced.return_id, "reject", None).await;
    assert_eq!(
        (status, &shown["state"], &shown["refundable"]),
        (StatusCode::OK, &json!("REJECTED"), &json!(0))
    );
    assert_eq!(
        api.desk(announced.return_id, "receive", None).await.0,
        StatusCode::CONFLICT
    );
    assert_eq!(api.told(announced.order_id).await, ["ReturnRejected"]);
    let (status, _) = api.desk(Uuid::now_v7(), "receive", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

/// What was looked at by hand meanwhile is left alone.
#[tokio::test]
async fn what_nobody_looked_at_is_taken_back_unasked() {
    let api = Api::start().await;
    let (one, other) = (api.announced().await, api.announced().await);
    api.desk(other.return_id, "reject", None).await;
    let errand = TakeBack {
        decisions: api.decisions.clone(),
        delay: Duration::ZERO,
    };
    let shutdown = CancellationToken::new();
    let running = messaging::run_errand(messaging::Db::new(api.pool.clone()), errand, shutdown.clone());
    let running = tokio::spawn(running);
    while api.told(one.order_id).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shutdown.cancel();
    running.await.unwrap();
    assert_eq!(api.event(one.order_id, "ReturnReceived").await["refundable"], 750);
    assert_eq!(api.told(other.order_id).await, ["ReturnRejected"]);
}
