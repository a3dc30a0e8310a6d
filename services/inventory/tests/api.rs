//! The HTTP surface of the inventory service, against a real database.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use inventory::{MIGRATIONS, api};
use messaging::{Db, Decisions};
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

struct House(Router);

impl House {
    async fn open() -> Self {
        let db = Db::new(testbed::database(&MIGRATIONS).await);
        let decisions = Decisions::start(db.clone());
        Self(chassis::surface(api::routes(api::App { db, decisions })))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        etag: Option<&str>,
    ) -> (StatusCode, HeaderMap, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(etag) = etag {
            request = request.header("if-match", etag);
        }
        let request = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        let response = self.0.clone().oneshot(request.unwrap()).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (StatusCode, HeaderMap, Value) {
        self.send(Method::GET, path, None, None).await
    }

    async fn put(&self, sku: &str, price: i64, etag: Option<&str>) -> (StatusCode, HeaderMap, Value) {
        let body = json!({ "name": "Tea", "price": price, "currency": "EUR" });
        self.send(Method::PUT, &format!("/v1/products/{sku}"), Some(body), etag)
            .await
    }

    async fn adjust(&self, sku: &str, delta: i64) -> (StatusCode, HeaderMap, Value) {
        let body = json!({ "delta": delta, "reason": "delivery" });
        self.send(Method::POST, &format!("/v1/products/{sku}/stock"), Some(body), None)
            .await
    }
}

#[tokio::test]
async fn a_product_is_listed_changed_and_filled_up() {
    let house = House::open().await;
    let (status, headers, listed) = house.put("tea", 250, None).await;
    assert_eq!(
        (status, headers["etag"].to_str().unwrap()),
        (StatusCode::CREATED, "\"1.0.0\"")
    );
    assert_eq!(listed["available"], 0);
    assert_eq!(house.put("tea", 250, None).await.0, StatusCode::OK);
    assert_eq!(house.put("tea", 300, None).await.1["etag"], "\"2.0.0\"");
    assert_eq!(house.adjust("tea", 7).await.2["available"], 7);
    let (_, headers, shown) = house.get("/v1/products/tea").await;
    let expected = json!({ "sku": "tea", "name": "Tea", "price": 300, "currency": "EUR", "on_hand": 7, "reserved": 0, "available": 7 });
    assert_eq!((shown, headers["etag"].to_str().unwrap()), (expected, "\"2.7.0\""));
}

#[tokio::test]
async fn a_price_that_changed_meanwhile_is_not_overwritten() {
    let house = House::open().await;
    house.put("tea", 250, None).await;
    assert_eq!(house.put("tea", 300, Some("\"1\"")).await.0, StatusCode::OK);
    let (status, _, problem) = house.put("tea", 350, Some("\"1\"")).await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::PRECONDITION_FAILED, &json!("/problems/changed-meanwhile"))
    );
    assert_eq!(
        house.put("mug", 900, Some("\"1\"")).await.0,
        StatusCode::PRECONDITION_FAILED
    );
}

#[tokio::test]
async fn stock_cannot_fall_below_what_is_there() {
    let house = House::open().await;
    house.put("tea", 250, None).await;
    house.adjust("tea", 5).await;
    let (status, _, problem) = house.adjust("tea", -6).await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::CONFLICT, &json!("/problems/too-few-in-stock"))
    );
    assert_eq!(house.adjust("tea", 0).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(house.adjust("unicorn", 1).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_stock_check_answers_prices_and_leaves_out_what_does_not_exist() {
    let house = House::open().await;
    house.put("tea", 250, None).await;
    house.adjust("tea", 5).await;
    let lines = json!({ "lines": [{ "sku": "tea", "quantity": 6 }, { "sku": "unicorn", "quantity": 1 }] });
    let (status, _, checked) = house.send(Method::POST, "/v1/stock-checks", Some(lines), None).await;
    assert_eq!(status, StatusCode::OK);
    let expected =
        json!([{ "sku": "tea", "name": "Tea", "price": 250, "currency": "EUR", "available": 5, "sufficient": false }]);
    assert_eq!(checked["items"], expected);
}

#[tokio::test]
async fn the_catalogue_is_paged_by_sku() {
    let house = House::open().await;
    for sku in ["c", "a", "b"] {
        house.put(sku, 100, None).await;
    }
    let (_, headers, first) = house.get("/v1/products?limit=2").await;
    let skus = |page: &Value| {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["sku"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (skus(&first), &first["next_cursor"]),
        (vec![json!("a"), json!("b")], &json!("b"))
    );
    assert_eq!(headers["link"], "</v1/products?limit=2&cursor=b>; rel=\"next\"");
    let (_, headers, last) = house.get("/v1/products?limit=2&cursor=b").await;
    assert_eq!((skus(&last), headers.contains_key("link")), (vec![json!("c")], false));
}

#[tokio::test]
async fn bad_input_is_refused_by_name_and_unknown_things_are_not_found() {
    let house = House::open().await;
    let (status, _, problem) = house.put("tea", -1, None).await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("price"))
    );
    assert_eq!(house.put("t%20a", 1, None).await.2["errors"][0]["field"], "sku");
    assert_eq!(house.get("/v1/products/unicorn").await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        house.get(&format!("/v1/reservations/{}", Uuid::now_v7())).await.0,
        StatusCode::NOT_FOUND
    );
    let (status, _, _) = house
        .send(Method::POST, "/v1/stock-checks", Some(json!({ "lines": [] })), None)
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}
