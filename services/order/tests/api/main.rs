//! The HTTP surface of the order service, against a real database. Inventory is away throughout, so
//! prices come from the local catalogue.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod keys;
mod patience;
mod returns;
mod stream;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use chassis::InFlight;
use messaging::{Db, Decisions, Touched};
use order::api::Followed;
use order::clients::Inventory;
use order::domain::{Offer, Orders, Patience};
use order::{MIGRATIONS, api};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use uuid::Uuid;

struct Shop {
    pool: PgPool,
    /// Its routes without the surface.
    api: Router,
    routes: Router,
    decisions: Decisions<Orders>,
    followed: Followed,
    shutdown: CancellationToken,
}

struct Answer {
    status: StatusCode,
    headers: BTreeMap<String, String>,
    body: Value,
}

impl Shop {
    /// The service with tea in its catalogue, and an inventory at an address where nobody listens.
    async fn open() -> Self {
        Self::beside(&format!("http://127.0.0.1:{}", testbed::free_port().unwrap())).await
    }

    /// The same with an inventory at this address.
    async fn beside(inventory: &str) -> Self {
        Self::on(
            testbed::database(&MIGRATIONS).await,
            inventory,
            Duration::from_millis(200),
        )
        .await
    }

    /// A replica on this database, which waits so long for its inventory.
    async fn on(pool: PgPool, inventory: &str, budget: Duration) -> Self {
        let db = Db::new(pool.clone());
        let decisions = Decisions::<Orders>::start(db.clone());
        let (pay_within, minute) = (Duration::from_secs(900), Duration::from_secs(60));
        let (followed, shutdown) = (Followed::default(), CancellationToken::new());
        tokio::spawn(followed.clone().tell(db.clone(), shutdown.clone()));
        let api = api::routes(api::App {
            in_flight: InFlight::start(&db),
            db,
            decisions: decisions.clone(),
            inventory: Inventory::at(&inventory.parse().unwrap(), budget).unwrap(),
            pay_within,
            patience: Patience {
                services: 2 * minute,
                parcel: 60 * minute,
            },
            followed: followed.clone(),
        });
        let shop = Self {
            pool,
            routes: chassis::surface(api.clone()),
            api,
            decisions,
            followed,
            shutdown,
        };
        shop.offer("tea", 250).await;
        shop
    }

    async fn offer(&self, sku: &str, price: i64) {
        let offer = Offer {
            sku: sku.into(),
            name: "Tea".into(),
            price,
            currency: "EUR".into(),
            available: 10,
            revision: 1,
        };
        let learn = move |orders: &mut Orders| {
            orders.offers.insert(offer.sku.clone(), offer.clone());
            ((), ())
        };
        self.decisions.decide(Touched::default(), learn).await.unwrap();
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response: Response<Body> = self.routes.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let headers = response.headers().iter();
        let headers = headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Answer {
            status,
            headers,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        }
    }

    async fn post(&self, path: &str, body: &Value, key: Option<&str>) -> Answer {
        let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn count(&self, table: &'static str) -> i64 {
        let counted = match table {
            "orders" => sqlx::query_scalar("select count(*) from orders"),
            _ => sqlx::query_scalar("select count(*) from outbox"),
        };
        counted.fetch_one(&self.pool).await.unwrap()
    }
}

fn wish() -> Value {
    json!({
        "customer": { "id": "0198a8a0-0000-7000-8000-000000000001", "email": "ada@example.com" },
        "lines": [{ "sku": "tea", "quantity": 2 }],
        "ship_to": { "name": "Ada", "street": "1 Main St", "city": "London", "postal_code": "N1", "country": "GB" },
        "payment_method": "pm_card_visa",
    })
}

#[tokio::test]
async fn an_order_is_accepted_pending_with_its_event_in_the_outbox() {
    let shop = Shop::open().await;
    let placed = shop.post("/v1/orders", &wish(), None).await;
    assert_eq!(placed.status, StatusCode::CREATED);
    assert_eq!(
        placed.headers["location"],
        format!("/v1/orders/{}", placed.body["id"].as_str().unwrap())
    );
    assert_eq!(
        (placed.headers["etag"].as_str(), placed.headers["trace-id"].len()),
        ("\"1\"", 32)
    );
    assert_eq!(placed.body["state"], "PENDING");
    assert_eq!(placed.body["stock_check"], "skipped");
    assert_eq!(
        (&placed.body["total"], &placed.body["currency"]),
        (&json!(500), &json!("EUR"))
    );
    assert_eq!(
        placed.body["lines"][0],
        json!({ "sku": "tea", "name": "Tea", "quantity": 2, "unit_price": 250 })
    );
    assert_eq!((shop.count("orders").await, shop.count("outbox").await), (1, 1));

    let id = placed.body["id"].as_str().unwrap();
    let shown = shop.get(&format!("/v1/orders/{id}")).await;
    assert_eq!(shown.body, placed.body);
    let timeline = shop.get(&format!("/v1/orders/{id}/timeline")).await;
    assert_eq!(timeline.body["items"][0]["type"], "OrderPlaced");
    assert_eq!(timeline.body["items"][0]["sequence"], 1);
    let saga = shop.get(&format!("/v1/orders/{id}/saga")).await;
    assert_eq!(
        (&saga.body["state"], &saga.body["needs_attention"]),
        (&json!("PENDING"), &json!(false))
    );
    assert_eq!(saga.body["steps"].as_array().unwrap().len(), 3);
}

/// Row 29: A key is its customer's and stands for one body: repeated it gets the stored answer, with another body 422.
#[tokio::test]
async fn the_same_key_gets_the_same_answer_and_no_second_order() {
    let shop = Shop::open().await;
    let first = shop.post("/v1/orders", &wish(), Some("k-1")).await;
    let again = shop.post("/v1/orders", &wish(), Some("\"k-1\"")).await;
    assert_eq!((again.status, &again.body), (StatusCode::CREATED, &first.body));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert!(!first.headers.contains_key("idempotent-replayed"));
    assert_eq!(shop.count("orders").await, 1);

    let mut other = wish();
    other["lines"][0]["quantity"] = json!(3);
    let reused = shop.post("/v1/orders", &other, Some("k-1")).await;
    assert_eq!(reused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reused.body["type"], "/problems/idempotency-key-reused");

    other["customer"]["id"] = json!(Uuid::now_v7());
    assert_eq!(
        shop.post("/v1/orders", &other, Some("k-1")).await.status,
        StatusCode::CREATED,
        "a key is its customer's"
    );
}

/// Row 29: fifty requests at once under one key are one order.
#[tokio::test]
async fn fifty_simultaneous_requests_with_one_key_place_one_order() {
    let shop = Shop::open().await;
    let (path, wish) = ("/v1/orders", wish());
    let answers = futures_util::future::join_all((0..50).map(|_| shop.post(path, &wish, Some("k")))).await;
    let (placed, waiting): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == StatusCode::CREATED);
    assert!(
        waiting
            .iter()
            .all(|a| a.body["type"] == "/problems/idempotency-key-in-flight")
    );
    let ids: std::collections::BTreeSet<_> = placed.iter().map(|a| a.body["id"].to_string()).collect();
    assert_eq!(
        (ids.len(), shop.count("orders").await, shop.count("outbox").await),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn a_refused_field_is_named_in_a_problem_document() {
    let shop = Shop::open().await;
    let mut bad = wish();
    bad["lines"][0]["quantity"] = json!(0);
    let refused = shop.post("/v1/orders", &bad, None).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    assert_eq!(
        refused.body["errors"],
        json!([{ "field": "lines[0].quantity", "reason": "must be between 1 and 1000" }])
    );
    assert_eq!(
        (&refused.body["status"], &refused.body["instance"]),
        (&json!(422), &json!("/v1/orders"))
    );
    assert_eq!(refused.body["trace_id"].as_str().unwrap(), refused.headers["trace-id"]);

    bad = wish();
    bad["lines"][0]["sku"] = json!("unicorn");
    bad["lines"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "sku": "tea", "quantity": 1 }));
    let unknown = shop.post("/v1/orders", &bad, None).await;
    assert_eq!(
        (unknown.status, &unknown.body["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("lines[0].sku"))
    );

    bad = wish();
    bad["total"] = json!(1);
    let smuggled = shop.post("/v1/orders", &bad, None).await;
    assert_eq!(
        (smuggled.status, &smuggled.body["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("total"))
    );
}

#[tokio::test]
async fn whatever_is_wrong_with_a_request_the_answer_is_a_4xx_problem() {
    let shop = Shop::open().await;
    let json_post = |body: &str| {
        Request::post("/v1/orders")
            .header("content-type", "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap()
    };
    let cases = [
        (json_post("{"), 400),
        (json_post("[]"), 422),
        (json_post(&format!("{{\"customer\": \"{}\"}}", "x".repeat(70_000))), 413),
        (json_post(&"[".repeat(10_000)), 422),
        (Request::post("/v1/orders").body(Body::from("{}")).unwrap(), 415),
        (Request::delete("/v1/orders").body(Body::empty()).unwrap(), 405),
        (Request::get("/nothing").body(Body::empty()).unwrap(), 404),
        (Request::get("/v1/orders/not-a-uuid").body(Body::empty()).unwrap(), 404),
        (Request::get("/v1/orders?limit=0").body(Body::empty()).unwrap(), 422),
        (Request::get("/v1/orders?limit=many").body(Body::empty()).unwrap(), 422),
        (
            Request::get("/v1/orders?status=HAPPY").body(Body::empty()).unwrap(),
            422,
        ),
        (Request::get("/v1/orders?cursor=x").body(Body::empty()).unwrap(), 422),
    ];
    for (request, expected) in cases {
        let uri = request.uri().to_string();
        let answer = shop.send(request).await;
        assert_eq!(answer.status.as_u16(), expected, "{uri}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{uri}");
        assert!(
            answer.body["detail"].is_string() && answer.body["type"].is_string(),
            "{uri}"
        );
    }
    assert_eq!(shop.count("orders").await, 0);
}

#[tokio::test]
async fn a_price_that_nobody_knows_is_a_503_that_says_when_to_try_again() {
    let shop = Shop::open().await;
    sqlx::query("delete from catalogue").execute(&shop.pool).await.unwrap();
    let refused = shop.post("/v1/orders", &wish(), None).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    let retry_after: u32 = refused.headers["retry-after"].parse().unwrap();
    assert!((1..=5).contains(&retry_after), "not all at once: {retry_after} s");
}

#[tokio::test]
async fn an_unchanged_order_is_not_sent_again() {
    let shop = Shop::open().await;
    let placed = shop.post("/v1/orders", &wish(), None).await;
    let path = placed.headers["location"].clone();
    let conditional = Request::get(&path)
        .header("if-none-match", &placed.headers["etag"])
        .body(Body::empty())
        .unwrap();
    assert_eq!(shop.send(conditional).await.status, StatusCode::NOT_MODIFIED);
    shop.post(&format!("{path}/cancel"), &json!({}), None).await;
    let conditional = Request::get(&path)
        .header("if-none-match", &placed.headers["etag"])
        .body(Body::empty())
        .unwrap();
    assert_eq!(shop.send(conditional).await.status, StatusCode::OK);
}

#[tokio::test]
async fn cancelling_is_accepted_and_asked_of_the_participants_once() {
    let shop = Shop::open().await;
    let placed = shop.post("/v1/orders", &wish(), None).await;
    let path = format!("{}/cancel", placed.headers["location"]);
    for _ in 0..2 {
        let answer = shop.post(&path, &json!({}), None).await;
        assert_eq!(
            (answer.status, &answer.body["state"]),
            (StatusCode::ACCEPTED, &json!("CANCELLING"))
        );
        assert_eq!(answer.body["reason"], "REQUESTED_BY_CUSTOMER");
    }
    assert_eq!(
        shop.count("outbox").await,
        2,
        "OrderPlaced and one OrderCancellationRequested"
    );
    let unknown = shop
        .post(&format!("/v1/orders/{}/cancel", Uuid::now_v7()), &json!({}), None)
        .await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_list_is_paged_newest_first_and_filtered() {
    let shop = Shop::open().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(shop.post("/v1/orders", &wish(), None).await.body["id"].clone());
    }
    ids.reverse();
    let (mut seen, mut path) = (Vec::new(), "/v1/orders?limit=2&status=PENDING".to_owned());
    loop {
        let page = shop.get(&path).await;
        seen.extend(
            page.body["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|order| order["id"].clone()),
        );
        let Some(link) = page.headers.get("link") else { break };
        assert!(page.body["next_cursor"].is_string());
        path = link.split(['<', '>']).nth(1).unwrap().to_owned();
    }
    assert_eq!(seen, ids);
    assert_eq!(shop.get("/v1/orders?status=COMPLETED").await.body["items"], json!([]));
    let nobody = format!("/v1/orders?customer_id={}", Uuid::now_v7());
    assert_eq!(shop.get(&nobody).await.body["items"], json!([]));
}
