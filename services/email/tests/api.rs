//! The HTTP surface of the email service, on a real database.
#![allow(clippy::unwrap_used)]

mod support;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use email::{MIGRATIONS, api};
use messaging::{Db, Decisions};
use serde_json::Value;
use support::Heard::{Confirmed, Placed, Shipped};
use support::{Story, hear, story};
use tower::ServiceExt;

async fn shop() -> (Router, Decisions<email::domain::Mailroom>) {
    let db = Db::new(testbed::database(&MIGRATIONS).await);
    let routes = chassis::surface(api::routes(api::App { db: db.clone() }));
    (routes, Decisions::start(db))
}

async fn get(routes: &Router, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = routes.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn templates(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["template"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_messages_of_one_order_are_listed_with_their_recipient() {
    let (routes, decisions) = shop().await;
    let (mine, other) = (story("ada@example.org"), story("bob@example.org"));
    hear(&decisions, &mine, &[Placed, Confirmed, Shipped]).await;
    hear(&decisions, &other, &[Placed, Confirmed]).await;
    let (status, page) = get(&routes, &format!("/v1/messages?order_id={}", mine.order_id)).await;
    assert_eq!(
        (status, templates(&page)),
        (StatusCode::OK, vec!["order_shipped", "order_confirmed"])
    );
    let item = &page["items"][1];
    assert_eq!(item["order_id"], mine.order_id.to_string());
    assert_eq!(
        (&item["to"], &item["state"]),
        (&"ada@example.org".into(), &"PENDING".into())
    );
    assert_eq!((&item["sent_at"], &page["next_cursor"]), (&Value::Null, &Value::Null));
    assert!(item["message_id"].as_str().unwrap().ends_with("@tidings.example>"));
}

#[tokio::test]
async fn pages_hold_every_message_once() {
    let (routes, decisions) = shop().await;
    let mut orders: Vec<Story> = Vec::new();
    for _ in 0..3 {
        let story = story("ada@example.org");
        hear(&decisions, &story, &[Placed, Confirmed, Shipped]).await;
        orders.push(story);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = get(&routes, &format!("/v1/messages?limit=4{cursor}")).await;
        let items = page["items"].as_array().unwrap();
        seen.extend(
            items
                .iter()
                .map(|item| (item["order_id"].to_string(), item["template"].to_string())),
        );
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    let newest_first = orders.iter().rev().flat_map(|story| {
        ["order_shipped", "order_confirmed"].map(|name| (format!("\"{}\"", story.order_id), format!("\"{name}\"")))
    });
    assert_eq!(seen, newest_first.collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_a_query_is_a_problem_that_names_the_field() {
    let (routes, _decisions) = shop().await;
    for (query, field) in [("limit=0", "limit"), ("cursor=x", "cursor"), ("order_id=x", "order_id")] {
        let (status, problem) = get(&routes, &format!("/v1/messages?{query}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        assert_eq!(problem["errors"][0]["field"], field);
    }
}

#[tokio::test]
async fn a_message_without_a_known_recipient_is_listed_without_one() {
    let (routes, decisions) = shop().await;
    hear(&decisions, &story("ada@example.org"), &[Shipped]).await;
    let (_, page) = get(&routes, "/v1/messages").await;
    assert_eq!(
        (&page["items"][0]["to"], &page["items"][0]["state"]),
        (&Value::Null, &"WAITING".into())
    );
}
