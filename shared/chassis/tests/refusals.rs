//! Requests that cannot be read, by a route that takes JSON.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::routing::{get, post};
use chassis::{Json, PageRequest, Path, Query, surface};
use serde::Deserialize;
use serde_json::Value;
use tower::ServiceExt;
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Basket {
    #[allow(dead_code)]
    lines: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Line {
    sku: String,
    quantity: i64,
}

async fn post_json(body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::post("/baskets").header("content-type", "application/json");
    asked(request.body(body.into()).unwrap()).await
}

async fn asked(request: Request<Body>) -> (StatusCode, Value) {
    let routes = Router::new()
        .route("/baskets", post(|Json(_): Json<Basket>| async { "taken" }))
        .route("/baskets/{id}", get(|Path(_): Path<Uuid>| async { "shown" }))
        .route(
            "/list",
            get(|Query(page): Query<PageRequest>| async move { page.limit().map(|_| "listed") }),
        );
    let answer = surface(routes).oneshot(request).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_refused_field_is_named_by_its_whole_path() {
    for (body, field) in [
        (
            r#"{"lines":[{"sku":"a","quantity":1},{"sku":"b","quantity":"2"}]}"#,
            "lines[1].quantity",
        ),
        (
            r#"{"lines":[{"sku":"a","quantity":99999999999999999999}]}"#,
            "lines[0].quantity",
        ),
        (r#"{"lines":[{"sku":"a","quantity":1.5}]}"#, "lines[0].quantity"),
        (r#"{"lines":[{"quantity":1}]}"#, "lines[0].sku"),
        (r#"{"lines":[{"sku":"a","quantity":1,"price":0}]}"#, "lines[0].price"),
        (r#"{"lines":[],"total":0}"#, "total"),
        (r#"{"lines":[{"sku":"a","sku":"b","quantity":1}]}"#, "lines[0].sku"),
        (r#"{"lines":[{"sku":"a\u0000b","quantity":1}]}"#, "lines[0].sku"),
        ("{}", "lines"),
        ("[]", "body"),
        ("null", "body"),
    ] {
        let (status, problem) = post_json(body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
    }
}

/// Row 43: JSON nested deeper than 128 levels is refused, not followed down the stack.
#[tokio::test]
async fn text_that_is_not_json_is_a_400() {
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let deep_unknown = format!(
        r#"{{"lines":[],"x":{}1{}}}"#,
        r#"{"x":"#.repeat(5_000),
        "}".repeat(5_000)
    );
    for body in [
        b"".to_vec(),
        b"{".to_vec(),
        b"{\"lines\":[]}{}".to_vec(),
        b"{\"lines\": [\xff\xfe]}".to_vec(),
        b"{\"lines\": [{\"sku\": \"\xc3\x28\"}]}".to_vec(),
        b"{\"lines\": [{\"sku\": \"a\0b\"}]}".to_vec(),
        b"{\"lines\": NaN}".to_vec(),
    ] {
        let (status, problem) = post_json(body.clone()).await;
        assert_eq!(
            status,
            StatusCode::BAD_REQUEST,
            "{}: {problem}",
            String::from_utf8_lossy(&body)
        );
        assert_eq!(problem["type"], "/problems/malformed-request");
    }
    for body in [deep, deep_unknown] {
        let (status, problem) = post_json(body).await;
        assert!(status.is_client_error(), "{problem}");
    }
}

#[tokio::test]
async fn a_literal_backslash_before_u0000_is_no_nul() {
    let (status, _) = post_json(r#"{"lines":[{"sku":"a\\u0000b","quantity":1}]}"#).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_refused_parameter_is_named() {
    for (query, field) in [
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
    ] {
        let (status, problem) = asked(Request::get(format!("/list?{query}")).body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
}

#[tokio::test]
async fn nul_in_an_address_is_refused_and_other_strange_paths_name_nothing() {
    for (address, expected) in [
        ("/baskets/%00", 400),
        ("/list?cursor=a%00b", 400),
        ("/baskets/%ff", 404),
        ("/baskets/1", 404),
        ("/nowhere", 404),
    ] {
        let (status, problem) = asked(Request::get(address).body(Body::empty()).unwrap()).await;
        assert_eq!(status.as_u16(), expected, "{address}: {problem}");
        assert_eq!(problem["status"], expected);
    }
}
