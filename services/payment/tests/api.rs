//! The HTTP surface of the payment service, against a real database.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod replica;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use hmac::{Hmac, KeyInit, Mac};
use payment::api::{App, routes};
use replica::{Replica, charged};
use serde_json::{Value, json};
use sha2::Sha256;
use tower::ServiceExt;
use uuid::Uuid;

const SECRET: &str = "whsec_of_these_tests";

struct Api {
    replica: Replica,
    router: Router,
}

impl Api {
    async fn start() -> Self {
        let replica = Replica::start().await;
        let app = App {
            db: replica.db.clone(),
            decisions: replica.decisions.clone(),
            webhook_secret: SECRET.into(),
        };
        Self {
            replica,
            router: chassis::surface(routes(app)),
        }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// A notice with this signature.
    async fn notify(&self, signature: &str, body: &str) -> (StatusCode, Value) {
        let request = Request::post("/v1/webhooks/gateway").header("stripe-signature", signature);
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// An order whose payment was tried once, and taken.
    async fn paid(&self) -> Uuid {
        let order_id = self.replica.reserved("pm_card_visa").await;
        self.replica.settle(order_id, 0, charged()).await;
        order_id
    }
}

fn sign(body: &str, time: i64) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{time}.{body}").as_bytes());
    let digest: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t={time},v1={digest}")
}

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

fn notice(id: &str, kind: &str, order_id: Uuid) -> String {
    let object = json!({ "id": "pi_1", "object": "payment_intent", "metadata": { "order_id": order_id } });
    json!({ "id": id, "object": "event", "type": kind, "data": { "object": object } }).to_string()
}

#[tokio::test]
async fn a_payment_is_shown_with_its_history_but_not_its_token() {
    let api = Api::start().await;
    let order_id = api.paid().await;
    let (status, payment) = api.get(&format!("/v1/payments/{order_id}")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&payment["order_id"], &payment["state"]),
        (&json!(order_id), &json!("SUCCEEDED"))
    );
    assert_eq!(
        (&payment["amount"], &payment["captured"], &payment["refunded"]),
        (&json!(2500), &json!(2500), &json!(0))
    );
    assert_eq!((&payment["currency"], &payment["attempts"]), (&json!("EUR"), &json!(0)));
    let events = payment["events"].as_array().unwrap();
    let story: Vec<_> = events
        .iter()
        .map(|event| (event["version"].as_i64().unwrap(), event["type"].as_str().unwrap()))
        .collect();
    assert_eq!(story, [(1, "Requested"), (2, "Captured")]);
    assert_eq!(events[1]["data"]["gateway_ref"], "pi_1");
    assert!(chrono::DateTime::parse_from_rfc3339(events[0]["at"].as_str().unwrap()).is_ok());
    assert!(!payment.to_string().contains("pm_card_visa"));
}

#[tokio::test]
async fn a_payment_undone_before_it_was_asked_for_is_shown_as_void() {
    let api = Api::start().await;
    let order_id = Uuid::now_v7();
    let (status, problem) = api.get(&format!("/v1/payments/{order_id}")).await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::NOT_FOUND, &json!("/problems/not-found"))
    );
    api.replica.cancel(order_id).await;
    let (_, payment) = api.get(&format!("/v1/payments/{order_id}")).await;
    assert_eq!(
        (&payment["state"], &payment["amount"], &payment["currency"]),
        (&json!("VOIDED"), &json!(0), &Value::Null)
    );
}

#[tokio::test]
async fn the_ledger_is_read_page_by_page_and_by_order() {
    let api = Api::start().await;
    let orders = [api.paid().await, api.paid().await];
    let (status, first) = api.get("/v1/ledger?limit=3").await;
    assert_eq!((status, first["items"].as_array().unwrap().len()), (StatusCode::OK, 3));
    let cursor = first["next_cursor"].as_str().unwrap();
    let (_, last) = api.get(&format!("/v1/ledger?limit=3&cursor={cursor}")).await;
    assert_eq!(
        (last["items"].as_array().unwrap().len(), &last["next_cursor"]),
        (1, &Value::Null)
    );

    let (_, own) = api.get(&format!("/v1/ledger?order_id={}", orders[1])).await;
    let items = own["items"].as_array().unwrap();
    assert!(items.len() == 2 && items.iter().all(|item| item["order_id"] == json!(orders[1])));
    assert_eq!(items[0]["transaction_id"], items[1]["transaction_id"]);
    let sides = items.iter().map(|item| {
        (
            item["account"].as_str().unwrap(),
            item["debit"].as_i64(),
            item["credit"].as_i64(),
        )
    });
    assert_eq!(
        sides.collect::<Vec<_>>(),
        [
            ("gateway_receivable", Some(2500), Some(0)),
            ("sales", Some(0), Some(2500))
        ]
    );

    let (_, balance) = api.get("/v1/ledger/balance").await;
    assert_eq!(balance, json!({ "debit": 5000, "credit": 5000 }));
    for query in ["cursor=x", "limit=0", "limit=101", "order_id=x"] {
        assert_eq!(
            api.get(&format!("/v1/ledger?{query}")).await.0,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_notice_of_the_gateway_has_the_payment_looked_up_now_and_once() {
    let api = Api::start().await;
    let order_id = api.replica.reserved("pm_card_visa").await;
    let later = async || {
        let later = "update payments set due_at = now() + interval '1 hour', attempts = 1";
        sqlx::query(later).execute(&api.replica.pool).await.unwrap();
    };
    later().await;
    let body = notice("evt_1", "payment_intent.succeeded", order_id);
    assert_eq!(
        api.notify(&sign(&body, now()), &body).await,
        (StatusCode::OK, json!({ "received": true }))
    );
    assert!(api.replica.due_in(order_id).await.unwrap() <= 0.0);
    assert!(
        api.replica.told(order_id).await.is_empty(),
        "a notice settles nothing by itself"
    );

    later().await;
    assert_eq!(api.notify(&sign(&body, now()), &body).await.0, StatusCode::OK);
    assert!(
        api.replica.due_in(order_id).await.unwrap() > 3_000.0,
        "the same notice again changes nothing"
    );
    for (id, kind, order) in [
        ("evt_2", "charge.refunded", order_id),
        ("evt_3", "payment_intent.succeeded", Uuid::now_v7()),
    ] {
        let body = notice(id, kind, order);
        assert_eq!(api.notify(&sign(&body, now()), &body).await.0, StatusCode::OK);
    }
    assert!(api.replica.due_in(order_id).await.unwrap() > 3_000.0);
}

#[tokio::test]
async fn a_notice_that_is_not_the_gateways_is_refused() {
    let api = Api::start().await;
    let order_id = api.replica.reserved("pm_card_visa").await;
    sqlx::query("update payments set due_at = now() + interval '1 hour', attempts = 1")
        .execute(&api.replica.pool)
        .await
        .unwrap();
    let body = notice("evt_1", "payment_intent.succeeded", order_id);
    let recorded = sign(&body, now() - 301);
    for signature in ["", "t=1,v1=00", recorded.as_str(), &sign("{}", now())] {
        let (status, problem) = api.notify(signature, &body).await;
        assert_eq!(
            (status, &problem["type"]),
            (StatusCode::BAD_REQUEST, &json!("/problems/invalid-signature"))
        );
    }
    assert!(api.replica.due_in(order_id).await.unwrap() > 3_000.0);
    let garbage = "{}";
    assert_eq!(
        api.notify(&sign(garbage, now()), garbage).await.0,
        StatusCode::BAD_REQUEST
    );
}
