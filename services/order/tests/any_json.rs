//! Whatever JSON is posted, the answer is 201 or a refusal that says why; never a failure of ours.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use chassis::InFlight;
use messaging::{Db, Decisions, Touched};
use order::api::Followed;
use order::clients::Inventory;
use order::domain::{Offer, Orders, Patience};
use order::{MIGRATIONS, api};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// The service with tea in its catalogue, and nobody to ask for stock.
async fn routes() -> Router {
    let db = Db::new(testbed::database(&MIGRATIONS).await);
    let decisions = Decisions::<Orders>::start(db.clone());
    let learn = |orders: &mut Orders| {
        let offer = Offer {
            sku: "tea".into(),
            name: "Tea".into(),
            price: i64::MAX / 1_000,
            currency: "EUR".into(),
            available: 10,
            revision: 1,
        };
        orders.offers.insert("tea".into(), offer);
        ((), ())
    };
    decisions.decide(Touched::default(), learn).await.unwrap();
    let closed = format!("http://127.0.0.1:{}", testbed::free_port().unwrap());
    let inventory = Inventory::at(&closed.parse().unwrap(), Duration::from_millis(200)).unwrap();
    chassis::surface(api::routes(api::App {
        in_flight: InFlight::start(&db),
        followed: Followed::default(),
        db,
        decisions,
        inventory,
        pay_within: Duration::from_secs(900),
        patience: Patience {
            services: Duration::from_secs(120),
            parcel: Duration::from_secs(3_600),
        },
    }))
}

/// JSON of any kind, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (1_i64..3).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "tea",
            "pm_card_visa",
            "DE",
            "EUR",
            "a@b.c",
            "\0",
            "\u{feff}",
            "💥"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A legal order in which some places hold something else.
fn nearly_an_order() -> impl Strategy<Value = Value> {
    let places = vec![
        "",
        "/customer",
        "/customer/id",
        "/customer/email",
        "/lines",
        "/lines/0",
        "/lines/0/sku",
        "/lines/0/quantity",
        "/ship_to",
        "/ship_to/name",
        "/ship_to/street",
        "/ship_to/city",
        "/ship_to/postal_code",
        "/ship_to/country",
        "/payment_method",
        "/currency",
    ];
    prop::collection::vec((prop::sample::select(places), any_json()), 0..3).prop_map(|changes| {
        let mut order = json!({
            "customer": { "id": "0198a8a0-0000-7000-8000-000000000001", "email": "ada@example.com" },
            "lines": [{ "sku": "tea", "quantity": 2 }],
            "ship_to": { "name": "Ada", "street": "1 Main St", "city": "London", "postal_code": "N1", "country": "GB" },
            "payment_method": "pm_card_visa",
            "currency": "EUR",
        });
        for (place, value) in changes {
            if let Some(there) = order.pointer_mut(place) {
                *there = value;
            }
        }
        order
    })
}

/// Row 43: whatever JSON is posted as an order, the answer is 201, a 4xx that names what is wrong, or, for an article
/// that is not in the catalogue while inventory is away, a 503.
#[test]
fn any_json_is_an_order_or_refused() {
    let runtime = Runtime::new().unwrap();
    let routes = runtime.block_on(routes());
    let cases = Config::with_cases(400);
    let tried = TestRunner::new(cases).run(&nearly_an_order(), |body| {
        let request = Request::post("/v1/orders").header("content-type", "application/json");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let (status, text) = runtime.block_on(async {
            let answer = routes.clone().oneshot(request).await.unwrap();
            let status = answer.status();
            (status, to_bytes(answer.into_body(), 1 << 20).await.unwrap())
        });
        let answer: Value = serde_json::from_slice(&text).unwrap();
        let asks_for_tea = |line: &Value| line["sku"] == "tea";
        let all_known = body["lines"]
            .as_array()
            .is_some_and(|lines| lines.iter().all(asks_for_tea));
        if status.as_u16() == 503 {
            // Nobody can be asked what something unknown costs.
            prop_assert!(!all_known, "{status}: {answer}");
        } else if status.as_u16() != 201 {
            prop_assert!(status.is_client_error(), "{status}: {answer}");
            prop_assert!(answer["errors"][0]["field"].is_string(), "{status}: {answer}");
        }
        Ok(())
    });
    tried.unwrap();
}
