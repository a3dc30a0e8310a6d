//! The HTTP surface of newcomer, on a real database.
#![allow(clippy::unwrap_used)]

mod support;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use messaging::{Db, Decisions};
use newcomer::MIGRATIONS;
use newcomer::api::{App, routes};
use serde_json::{Value, json};
use support::hear;
use tower::ServiceExt;
use uuid::Uuid;

async fn get(routes: &Router, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = routes.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn points_are_shown_by_subject_and_in_total() {
    let db = Db::new(testbed::database(&MIGRATIONS).await);
    let routes = chassis::surface(routes(App { db: db.clone() }));
    let (decisions, subject) = (Decisions::start(db), Uuid::now_v7().to_string());
    let path = format!("/v1/points/{subject}");

    assert_eq!(get(&routes, &path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&routes, "/v1/points").await.1, json!({"accounts": 0, "points": 0}));

    hear(&decisions, &subject).await;
    let expected = json!({"subject": subject, "points": 1});
    assert_eq!(get(&routes, &path).await, (StatusCode::OK, expected));
    assert_eq!(get(&routes, "/v1/points").await.1, json!({"accounts": 1, "points": 1}));
}
