//! The edge of every service, as it runs: malformed requests, hostile text, and clients that hang up.

mod hang_ups;
mod hostile;
mod secrets;

use e2e_tests::{Service, Wish, World, run};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A path that each service answers with 200.
const READABLE: [(Service, &str); 6] = [
    (Service::Order, "/v1/orders"),
    (Service::Payment, "/v1/ledger"),
    (Service::Inventory, "/v1/products"),
    (Service::Warehouse, "/v1/shipments/0198a8a0-0000-7000-8000-000000000001"),
    (Service::Email, "/v1/messages"),
    (Service::Analytics, "/v1/sales?by=minute"),
];

/// Everything that takes JSON.
const WRITABLE: [(Service, Method, &str); 5] = [
    (Service::Order, Method::POST, "/v1/orders"),
    (Service::Inventory, Method::PUT, "/v1/products/TEA-ASSAM"),
    (Service::Inventory, Method::POST, "/v1/products/TEA-ASSAM/stock"),
    (Service::Inventory, Method::POST, "/v1/stock-checks"),
    (
        Service::Warehouse,
        Method::POST,
        "/v1/shipments/0198a8a0-0000-7000-8000-000000000001/fail",
    ),
];

/// Fails unless the answer is a problem document with all its members, and its trace id is that of the header.
pub(crate) async fn assert_problem(request: RequestBuilder, expected: &[u16]) -> Value {
    let shown = format!("{request:?}");
    let answer = request.send().await.unwrap_or_else(|error| panic!("{shown}: {error}"));
    let (status, headers) = (answer.status(), answer.headers().clone());
    let text = answer.text().await.unwrap_or_default();
    assert!(expected.contains(&status.as_u16()), "{status} for {shown}: {text}");
    assert_eq!(headers["content-type"], "application/problem+json", "{shown}");
    let problem: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{shown}: {text}"));
    assert_eq!(problem["status"], status.as_u16(), "{shown}");
    for member in ["type", "title", "detail", "instance"] {
        assert!(problem[member].is_string(), "{member} of {shown}: {text}");
    }
    assert!(problem["errors"].is_array(), "{shown}: {text}");
    assert_eq!(
        problem["trace_id"].as_str(),
        headers["trace-id"].to_str().ok(),
        "{shown}"
    );
    assert_eq!(problem["trace_id"].as_str().map(str::len), Some(32), "{shown}");
    problem
}

/// Row 42: whatever is wrong with a request's address, method or headers, every service answers it with a 4xx problem
/// document.
#[test]
fn every_service_answers_a_malformed_request_with_a_problem_document() {
    run(async {
        let world = World::shared().await;
        for (service, path) in READABLE {
            let url = |path: &str| format!("{}{path}", world.shop.url(service));
            let problem = assert_problem(world.http.get(url("/nowhere")), &[404]).await;
            assert_eq!(problem["instance"], "/nowhere");
            assert_problem(world.http.get(url("/v1/%00")), &[400]).await;
            assert_problem(world.http.get(url("/v1/x%ff%fe")), &[404]).await;
            assert_problem(world.http.get(url(&format!("{path}?q={}", "x".repeat(9_000)))), &[414]).await;
            assert_problem(world.http.get(url(&format!("/{}", "x".repeat(9_000)))), &[414]).await;
            let headers = (0..200).fold(world.http.get(url(path)), |request, n| {
                request.header(format!("x-{n}"), "1")
            });
            assert_problem(headers, &[431]).await;
            for method in ["DELETE", "PATCH", "TRACE", "BREW"] {
                let request = world.http.request(method.parse().unwrap_or_default(), url(path));
                assert_problem(request.try_clone().unwrap_or_else(|| panic!("{method}")), &[405]).await;
                let refused = request.send().await.unwrap_or_else(|error| panic!("{error}"));
                let allowed = refused
                    .headers()
                    .get("allow")
                    .map(|allow| allow.to_str().unwrap_or_default().to_owned());
                assert!(allowed.is_some_and(|allow| allow.contains("GET")), "{service} {method}");
            }
            let garbage = raw(&world.shop.url(service), b"\x16\x03\x01\x02\x00\x01\r\n\r\n").await;
            assert!(
                garbage.starts_with("HTTP/1.1 400 ") && garbage.contains("/problems/malformed-request"),
                "{garbage}"
            );
        }
    });
}

/// What is answered to bytes.
async fn raw(url: &str, bytes: &[u8]) -> String {
    let mut answer = String::new();
    let mut socket = TcpStream::connect(url.trim_start_matches("http://"))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    socket.write_all(bytes).await.unwrap_or_else(|error| panic!("{error}"));
    socket
        .read_to_string(&mut answer)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    answer
}

/// Row 43: a body that is too large, too deep, not JSON or not called so is refused by whatever takes JSON, with a
/// problem document.
#[test]
fn a_body_that_cannot_be_read_is_refused() {
    run(async {
        let world = World::shared().await;
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let bodies: [(&str, Vec<u8>, &[u16]); 9] = [
            ("application/json", b"{".to_vec(), &[400]),
            ("application/json", b"{\"lines\": [1, 2".to_vec(), &[400, 422]),
            ("application/json", b"\xff\xfe{}".to_vec(), &[400]),
            ("application/json", b"{\"reason\": \"\xc3\x28\"}".to_vec(), &[400, 422]),
            ("application/json", nested(30_000).into_bytes(), &[400, 422]),
            (
                "application/json",
                format!("{{\"x\":{}}}", nested(30_000)).into_bytes(),
                &[400, 422],
            ),
            ("application/json", vec![b' '; 70_000], &[413]),
            ("text/plain", b"{}".to_vec(), &[415]),
            ("application/x-www-form-urlencoded", b"a=b".to_vec(), &[415]),
        ];
        for (service, method, path) in WRITABLE {
            for (kind, body, expected) in &bodies {
                let url = format!("{}{path}", world.shop.url(service));
                let request = world.http.request(method.clone(), url).header("content-type", *kind);
                assert_problem(request.body(body.clone()), expected).await;
            }
        }
    });
}

/// Where in an order, what stands there, and the field that the refusal names.
fn refused_fields() -> [(&'static str, Value, &'static str); 26] {
    let line = |quantity: Value| json!([{ "sku": "TEA-ASSAM", "quantity": quantity }]);
    let many = |count: usize| Value::from(vec![json!({ "sku": "TEA-ASSAM", "quantity": 1 }); count]);
    [
        ("/lines", json!([]), "lines"),
        ("/lines", many(101), "lines"),
        ("/lines", many(700), "lines"),
        ("/lines", line(json!(0)), "lines[0].quantity"),
        ("/lines", line(json!(-1)), "lines[0].quantity"),
        ("/lines", line(json!(1_001)), "lines[0].quantity"),
        ("/lines", line(json!(i64::MAX)), "lines[0].quantity"),
        ("/lines", line(json!(1e300)), "lines[0].quantity"),
        ("/lines", line(json!(1.5)), "lines[0].quantity"),
        ("/lines", line(json!("1")), "lines[0].quantity"),
        ("/lines", line(Value::Null), "lines[0].quantity"),
        ("/lines", json!([{ "sku": "", "quantity": 1 }]), "lines[0].sku"),
        (
            "/lines",
            json!([{ "sku": "x".repeat(65), "quantity": 1 }]),
            "lines[0].sku",
        ),
        (
            "/lines",
            json!([{ "sku": "no-such-thing", "quantity": 1 }]),
            "lines[0].sku",
        ),
        (
            "/lines",
            json!([{ "sku": "TEA\0ASSAM", "quantity": 1 }]),
            "lines[0].sku",
        ),
        (
            "/lines",
            json!([{ "sku": "TEA-ASSAM", "quantity": 1, "price": 1 }]),
            "lines[0].price",
        ),
        ("/total", json!(1), "total"),
        ("/customer/email", json!("nobody"), "customer.email"),
        (
            "/customer/email",
            json!(format!("{}@example.com", "x".repeat(300))),
            "customer.email",
        ),
        ("/customer/id", json!("1"), "customer.id"),
        ("/ship_to/name", json!("x".repeat(201)), "ship_to.name"),
        ("/ship_to/city", json!("two\nlines"), "ship_to.city"),
        ("/ship_to/street", json!("\0"), "ship_to.street"),
        ("/ship_to/country", json!("Deutschland"), "ship_to.country"),
        ("/payment_method", json!("4242424242424242"), "payment_method"),
        ("/currency", json!("XXX"), "currency"),
    ]
}

/// Row 43: counts, lengths, ranges, unknown and repeated fields of an order are checked, and the refusal names the field.
#[test]
fn a_refused_field_of_an_order_is_named() {
    run(async {
        let world = World::shared().await;
        let url = format!("{}/v1/orders", world.shop.url(Service::Order));
        for (pointer, value, field) in refused_fields() {
            let mut body = Wish::of("TEA-ASSAM").body();
            set(&mut body, pointer, value);
            let problem = assert_problem(world.http.post(&url).json(&body), &[422]).await;
            assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        }
        for key in [String::new(), "x".repeat(256), "tab\there".into()] {
            let request = world.http.post(&url).json(&Wish::of("TEA-ASSAM").body());
            let problem = assert_problem(request.header("idempotency-key", key), &[422]).await;
            assert_eq!(problem["errors"][0]["field"], "Idempotency-Key");
        }
    });
}

fn set(body: &mut Value, pointer: &str, value: Value) {
    let (above, name) = pointer.rsplit_once('/').unwrap_or_default();
    if let Some(Value::Object(fields)) = body.pointer_mut(above) {
        fields.insert(name.to_owned(), value);
    }
}

/// Row 43: numbers beyond what is stored are refused by inventory too, and overflow nothing.
#[test]
fn numbers_out_of_range_are_refused() {
    run(async {
        let world = World::shared().await;
        let url = |path: &str| format!("{}{path}", world.shop.url(Service::Inventory));
        for delta in [0, i64::MIN, i64::MAX, -1_000_000_001] {
            let body = json!({ "delta": delta, "reason": "counted" });
            let request = world.http.post(url("/v1/products/TEA-ASSAM/stock")).json(&body);
            let problem = assert_problem(request, &[422]).await;
            assert_eq!(problem["errors"][0]["field"], "delta");
        }
        for quantity in [i64::MIN, i64::MAX, 0, 1_000_001] {
            let line = json!({ "sku": "TEA-ASSAM", "quantity": quantity });
            let request = world
                .http
                .post(url("/v1/stock-checks"))
                .json(&json!({ "lines": [line, line] }));
            let problem = assert_problem(request, &[422]).await;
            assert_eq!(problem["errors"][0]["field"], "lines[0].quantity");
        }
        for price in [0, -1, i64::MAX] {
            let body = json!({ "name": "Tea", "price": price, "currency": "EUR" });
            let problem = assert_problem(world.http.put(url("/v1/products/TEA-ASSAM")).json(&body), &[422]).await;
            assert_eq!(problem["errors"][0]["field"], "price");
        }
        for (service, path) in READABLE {
            let joint = if path.contains('?') { '&' } else { '?' };
            for limit in ["0", "101", "-1", "x", "99999999999999999999"] {
                let address = format!("{}{path}{joint}limit={limit}", world.shop.url(service));
                if service != Service::Warehouse {
                    assert_problem(world.http.get(address), &[422]).await;
                }
            }
        }
        let early = format!(
            "{}/v1/orders?created_after=-262143-01-01T00:00:00Z",
            world.shop.url(Service::Order)
        );
        let problem = assert_problem(world.http.get(early), &[422]).await;
        assert_eq!(problem["errors"][0]["field"], "created_after");
    });
}
