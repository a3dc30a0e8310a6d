//! The HTTP surface of the warehouse, against a real database.
#![allow(clippy::unwrap_used)]

mod returns;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use events::{OrderCancellationRequested, OrderConfirmed, derive_id};
use messaging::{Db, Decisions, Touched};
use serde_json::{Value, json};
use sqlx::PgPool;
use tower::ServiceExt;
use uuid::Uuid;
use warehouse::api::{App, routes};
use warehouse::clients::Carrier;
use warehouse::domain::Warehouse;
use warehouse::{MIGRATIONS, reactions};

struct Api {
    pool: PgPool,
    decisions: Decisions<Warehouse>,
    router: Router,
}

impl Api {
    async fn start() -> Self {
        let pool = testbed::database(&MIGRATIONS).await;
        let db = Db::new(pool.clone());
        let decisions = Decisions::start(db.clone());
        let app = App {
            db,
            decisions: decisions.clone(),
            carrier: Carrier,
        };
        Self {
            pool,
            decisions,
            router: chassis::surface(routes(app)),
        }
    }

    /// An order that was confirmed, to be sent to this country.
    async fn confirmed(&self, country: &str) -> Uuid {
        let order = confirmed(Uuid::now_v7(), country);
        let order_id = order.order_id;
        let schedule = move |warehouse: &mut Warehouse| ((), reactions::schedule(warehouse, &order));
        self.decisions.decide(Touched::order(order_id), schedule).await.unwrap();
        order_id
    }

    async fn cancel(&self, order_id: Uuid) {
        let call_off = move |warehouse: &mut Warehouse| {
            let requested = OrderCancellationRequested {
                order_id,
                reason: events::CancelReason::RequestedByCustomer,
                requested_by: "customer".into(),
            };
            ((), reactions::call_off(warehouse, &requested))
        };
        self.decisions.decide(Touched::order(order_id), call_off).await.unwrap();
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn show(&self, order_id: Uuid) -> (StatusCode, Value) {
        let path = format!("/v1/shipments/{order_id}");
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, order_id: Uuid, what: &str) -> (StatusCode, Value) {
        let path = format!("/v1/shipments/{order_id}/{what}");
        self.send(Request::post(path).body(Body::empty()).unwrap()).await
    }

    async fn fail(&self, order_id: Uuid, body: Value) -> (StatusCode, Value) {
        let request = Request::post(format!("/v1/shipments/{order_id}/fail"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()));
        self.send(request.unwrap()).await
    }

    /// The names of the events told about an order, in order.
    async fn told(&self, order_id: Uuid) -> Vec<String> {
        sqlx::query_scalar("select split_part(event_type, '.', 3) from outbox where subject = $1 order by sequence")
            .bind(order_id.to_string())
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// The content of one of them.
    async fn event(&self, order_id: Uuid, name: &str) -> Value {
        let payload: String = sqlx::query_scalar(
            "select payload from outbox where subject = $1 and nats_subject = 'shop.warehouse.' || $2",
        )
        .bind(order_id.to_string())
        .bind(name)
        .fetch_one(&self.pool)
        .await
        .unwrap();
        serde_json::from_str(&payload).unwrap()
    }
}

/// A paid order, to be sent to this country.
fn confirmed(order_id: Uuid, country: &str) -> OrderConfirmed {
    let order = json!({
        "order_id": order_id,
        "customer": {"id": Uuid::now_v7(), "email": "buyer@example.com"},
        "lines": [{"sku": "tea", "name": "Tea", "quantity": 2, "unit_price": 500}],
        "ship_to": {
            "name": "A. Buyer", "street": "1 High Street", "city": "Town", "postal_code": "12345", "country": country,
        },
        "payment_id": Uuid::now_v7(),
        "total": 1000,
        "currency": "EUR",
    });
    serde_json::from_value(order).unwrap()
}

/// Checks that a refusal is a problem document of this kind, and returns its detail.
fn problem((status, body): (StatusCode, Value), expected: StatusCode, slug: &str) -> String {
    assert_eq!(
        (status, &body["type"]),
        (expected, &json!(format!("/problems/{slug}"))),
        "{body}"
    );
    body["detail"].as_str().unwrap().to_owned()
}

fn not_in_state(answer: (StatusCode, Value)) -> String {
    problem(answer, StatusCode::CONFLICT, "shipment-not-in-state")
}

#[tokio::test]
async fn a_shipment_is_shown_without_its_address() {
    let api = Api::start().await;
    let order_id = api.confirmed("DE").await;
    let (status, mut shown) = api.show(order_id).await;
    assert!(shown["state_since"].take().as_str().unwrap().ends_with('Z'));
    let expected = json!({
        "order_id": order_id,
        "shipment_id": derive_id(order_id, "shipment"),
        "state": "SCHEDULED",
        "carrier": Carrier::NAME,
        "tracking": null,
        "lines": [{"sku": "tea", "name": "Tea", "quantity": 2, "unit_price": 500}],
        "state_since": null,
    });
    assert_eq!((status, shown), (StatusCode::OK, expected));
}

#[tokio::test]
async fn what_nobody_asked_for_is_not_found() {
    let api = Api::start().await;
    let order_id = Uuid::now_v7();
    problem(api.show(order_id).await, StatusCode::NOT_FOUND, "not-found");
    for what in ["dispatch", "deliver", "fail"] {
        problem(api.post(order_id, what).await, StatusCode::NOT_FOUND, "not-found");
    }
    let garbled = Request::get("/v1/shipments/garbled").body(Body::empty()).unwrap();
    problem(api.send(garbled).await, StatusCode::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn a_tombstone_is_a_cancelled_shipment_without_an_id() {
    let api = Api::start().await;
    let order_id = Uuid::now_v7();
    api.cancel(order_id).await;
    let (status, shown) = api.show(order_id).await;
    assert_eq!((status, &shown["state"]), (StatusCode::OK, &json!("CANCELLED")));
    assert_eq!((&shown["shipment_id"], &shown["lines"]), (&Value::Null, &json!([])));
    for what in ["dispatch", "deliver", "fail"] {
        assert_eq!(
            not_in_state(api.post(order_id, what).await),
            "the shipment is CANCELLED"
        );
    }
}

#[tokio::test]
async fn a_parcel_is_dispatched_and_delivered_by_hand_once_each() {
    let api = Api::start().await;
    let order_id = api.confirmed("DE").await;
    assert_eq!(
        not_in_state(api.post(order_id, "deliver").await),
        "the shipment is SCHEDULED"
    );

    let (status, dispatched) = api.post(order_id, "dispatch").await;
    assert_eq!((status, &dispatched["state"]), (StatusCode::OK, &json!("DISPATCHED")));
    assert!(dispatched["tracking"].as_str().unwrap().starts_with("SP"));
    assert_eq!(
        api.post(order_id, "dispatch").await,
        (StatusCode::OK, dispatched.clone())
    );

    let (status, delivered) = api.post(order_id, "deliver").await;
    assert_eq!((status, &delivered["state"]), (StatusCode::OK, &json!("DELIVERED")));
    assert_eq!(delivered["tracking"], dispatched["tracking"]);
    for done in ["deliver", "dispatch"] {
        assert_eq!(api.post(order_id, done).await, (StatusCode::OK, delivered.clone()));
    }
    assert_eq!(
        not_in_state(api.post(order_id, "fail").await),
        "the shipment is DELIVERED"
    );
    let told = ["ShipmentScheduled", "OrderShipped", "OrderDelivered"];
    assert_eq!(api.told(order_id).await, told);
}

#[tokio::test]
async fn a_parcel_fails_by_hand_only_while_it_is_scheduled() {
    let api = Api::start().await;
    let order_id = api.confirmed("DE").await;
    let (status, failed) = api.fail(order_id, json!({"code": "lost_in_the_house"})).await;
    assert_eq!((status, &failed["state"]), (StatusCode::OK, &json!("FAILED")));
    assert_eq!(api.post(order_id, "fail").await, (StatusCode::OK, failed));
    assert_eq!(api.event(order_id, "ShipmentFailed").await["code"], "lost_in_the_house");
    assert_eq!(api.told(order_id).await, ["ShipmentScheduled", "ShipmentFailed"]);
    for what in ["dispatch", "deliver"] {
        assert_eq!(not_in_state(api.post(order_id, what).await), "the shipment is FAILED");
    }
}

#[tokio::test]
async fn failing_needs_no_body_but_refuses_a_bad_one() {
    let api = Api::start().await;
    let order_id = api.confirmed("DE").await;
    for bad in [
        json!({"code": ""}),
        json!({"code": "A. Buyer"}),
        json!({"code": 1}),
        json!({"reason": "x"}),
    ] {
        problem(
            api.fail(order_id, bad).await,
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-request",
        );
    }
    assert_eq!(api.show(order_id).await.1["state"], "SCHEDULED");
    assert_eq!(api.post(order_id, "fail").await.1["state"], "FAILED");
    assert_eq!(api.event(order_id, "ShipmentFailed").await["code"], "failed_by_hand");
}

#[tokio::test]
async fn a_parcel_that_the_carrier_refuses_fails_and_the_refusal_says_so_every_time() {
    let api = Api::start().await;
    let order_id = api.confirmed("XX").await;
    for _ in 0..2 {
        assert_eq!(
            not_in_state(api.post(order_id, "dispatch").await),
            "the shipment is FAILED"
        );
    }
    assert_eq!(
        api.event(order_id, "ShipmentFailed").await["code"],
        "undeliverable_address"
    );
}

#[tokio::test]
async fn a_cancelled_parcel_is_not_dispatched() {
    let api = Api::start().await;
    let order_id = api.confirmed("DE").await;
    api.cancel(order_id).await;
    assert_eq!(
        not_in_state(api.post(order_id, "dispatch").await),
        "the shipment is CANCELLED"
    );
    assert_eq!(api.told(order_id).await, ["ShipmentScheduled", "ShipmentCancelled"]);
}

#[tokio::test]
async fn many_hands_at_once_dispatch_a_parcel_once() {
    let api = Api::start().await;
    let order_id = api.confirmed("DE").await;
    let (first, second, third) = tokio::join!(
        api.post(order_id, "dispatch"),
        api.post(order_id, "dispatch"),
        api.post(order_id, "dispatch")
    );
    assert_eq!(first.0, StatusCode::OK);
    assert!(first == second && second == third, "{first:?} {second:?} {third:?}");
    assert_eq!(api.told(order_id).await, ["ShipmentScheduled", "OrderShipped"]);
}
