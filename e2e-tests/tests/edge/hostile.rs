//! Text that would be SQL if anything were made of it.

use std::collections::BTreeSet;

use e2e_tests::{Service, Wish, World, run};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::set;

const CORPUS: [&str; 12] = [
    "' or 1=1 --",
    "' or 'a'='a",
    "'; drop table orders; --",
    "1; drop table products cascade; --",
    "\"; delete from outbox; --",
    "x' union select current_setting('data_directory'), null --",
    "'||(select pg_sleep(30))||'",
    "$1",
    "$$; truncate inbox; $$",
    "%27%20or%201%3D1",
    "\\'; delete from products; --",
    "{0}'); insert into orders default values; --",
];

/// Every table with its columns: what no request may change.
async fn schema(pool: &PgPool) -> BTreeSet<String> {
    let columns =
        "select table_name || '.' || column_name from information_schema.columns where table_schema = 'public'";
    let columns: Vec<String> = sqlx::query_scalar(columns).fetch_all(pool).await.unwrap_or_default();
    columns.into_iter().collect()
}

/// Every parameter that is read.
const READS: &[(Service, &str)] = &[
    (Service::Order, "/v1/orders/{}"),
    (Service::Order, "/v1/orders/{}/saga"),
    (Service::Order, "/v1/orders/{}/timeline"),
    (Service::Order, "/v1/orders?status={}"),
    (Service::Order, "/v1/orders?customer_id={}"),
    (Service::Order, "/v1/orders?created_after={}"),
    (Service::Order, "/v1/orders?cursor={}"),
    (Service::Order, "/v1/orders?limit={}"),
    (Service::Order, "/v1/orders?{}=1"),
    (Service::Payment, "/v1/payments/{}"),
    (Service::Payment, "/v1/ledger?order_id={}"),
    (Service::Payment, "/v1/ledger?cursor={}"),
    (Service::Inventory, "/v1/products/{}"),
    (Service::Inventory, "/v1/products?cursor={}"),
    (Service::Inventory, "/v1/products?limit={}"),
    (Service::Inventory, "/v1/reservations/{}"),
    (Service::Warehouse, "/v1/shipments/{}"),
    (Service::Email, "/v1/messages?order_id={}"),
    (Service::Email, "/v1/messages?cursor={}"),
    (
        Service::Email,
        "/v1/messages?cursor=00000000-0000-0000-0000-000000000000.{}",
    ),
    (Service::Analytics, "/v1/sales?by={}"),
    (Service::Analytics, "/v1/sales?by=product&cursor={}"),
    (Service::Analytics, "/v1/sales?by=minute&cursor={}~EUR"),
    (Service::Analytics, "/v1/sales?by=product&cursor=x~{}"),
];

/// A request for every place of an address or a body into which text goes.
fn requests(world: &World, text: &str) -> Vec<RequestBuilder> {
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let of = |service: Service, path: &str| format!("{}{}", world.shop.url(service), path.replace("{}", &encoded));
    let some = Uuid::nil();
    let mut requests: Vec<_> = READS
        .iter()
        .map(|(service, path)| world.http.get(of(*service, path)))
        .collect();
    let writes = [
        (Method::POST, Service::Order, "/v1/orders/{}/cancel", json!({})),
        (
            Method::POST,
            Service::Inventory,
            "/v1/products/{}/stock",
            json!({ "delta": 1, "reason": "found" }),
        ),
        (
            Method::POST,
            Service::Inventory,
            "/v1/stock-checks",
            json!({ "lines": [{ "sku": text, "quantity": 1 }] }),
        ),
        (
            Method::PUT,
            Service::Inventory,
            "/v1/products/{}",
            json!({ "name": "Tea", "price": 1, "currency": "EUR" }),
        ),
        (
            Method::PUT,
            Service::Inventory,
            "/v1/products/TEA-ASSAM",
            json!({ "name": text, "price": 1, "currency": text }),
        ),
        (Method::POST, Service::Warehouse, "/v1/shipments/{}/dispatch", json!({})),
        (Method::POST, Service::Warehouse, "/v1/shipments/{}/deliver", json!({})),
        (Method::POST, Service::Warehouse, "/v1/shipments/{}/fail", json!({})),
        (
            Method::POST,
            Service::Payment,
            "/v1/webhooks/gateway",
            json!({ "id": text }),
        ),
    ];
    requests
        .extend(writes.map(|(method, service, path, body)| world.http.request(method, of(service, path)).json(&body)));
    let fail = of(Service::Warehouse, &format!("/v1/shipments/{some}/fail"));
    requests.push(world.http.post(fail).json(&json!({ "code": text })));
    requests
}

/// Row 44: hostile text in every path, parameter, header and field is refused or stored as it is, and is never SQL.
#[test]
fn hostile_text_is_never_sql() {
    run(async {
        let world = World::shared().await;
        let mut before = Vec::new();
        for service in Service::ALL {
            let pool = world.pool(service).await.unwrap_or_else(|error| panic!("{error:#}"));
            before.push((schema(&pool).await, pool));
        }
        let products = "select md5(string_agg(sku || name || price || currency, ',' order by sku)) from products";
        let inventory = &before[Service::Inventory as usize].1;
        let shelves: String = sqlx::query_scalar(products)
            .fetch_one(inventory)
            .await
            .unwrap_or_default();
        for text in CORPUS {
            for request in requests(world, text) {
                let shown = format!("{request:?}");
                let status = request.send().await.map(|answer| answer.status());
                let refused = status.as_ref().is_ok_and(|status| !status.is_server_error());
                assert!(refused, "{status:?} for {shown}");
            }
        }
        orders_with(world, &before[Service::Order as usize].1).await;
        for (service, (columns, pool)) in Service::ALL.iter().zip(&before) {
            assert_eq!(&schema(pool).await, columns, "the tables of {service} have changed");
        }
        let after: String = sqlx::query_scalar(products)
            .fetch_one(inventory)
            .await
            .unwrap_or_default();
        assert_eq!(after, shelves, "the catalogue has changed");
    });
}

/// Orders whose every text is hostile: those that are legal are stored as they came.
async fn orders_with(world: &World, pool: &PgPool) {
    let url = format!("{}/v1/orders", world.shop.url(Service::Order));
    for text in CORPUS {
        let pointers = [
            "/ship_to/name",
            "/ship_to/street",
            "/ship_to/city",
            "/ship_to/postal_code",
        ];
        let mut body = Wish::of("TEA-ASSAM").body();
        pointers.iter().for_each(|pointer| set(&mut body, pointer, json!(text)));
        let key = format!("{text} {}", Uuid::now_v7());
        let request = world.http.post(&url).json(&body).header("idempotency-key", key);
        let answer = request.send().await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(answer.status().as_u16(), 201, "{text}");
        let order: Value = answer.json().await.unwrap_or_default();
        let id: Uuid = order["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
        let stored: Value = sqlx::query_scalar("select to_jsonb(orders)->'ship_to' from orders where id = $1")
            .bind(id)
            .fetch_one(pool)
            .await
            .unwrap_or_default();
        assert_eq!(stored["name"], text);
        for pointer in [
            "/customer/email",
            "/customer/id",
            "/payment_method",
            "/currency",
            "/lines/0/sku",
            "/ship_to/country",
        ] {
            let mut body = Wish::of("TEA-ASSAM").body();
            set(&mut body, pointer, json!(text));
            super::assert_problem(world.http.post(&url).json(&body), &[422]).await;
        }
    }
}
