//! The HTTP surface of the analytics service, on a real database.
#![allow(clippy::unwrap_used)]

mod support;

use analytics::{MIGRATIONS, api};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use messaging::Db;
use serde_json::{Value, json};
use sqlx::PgPool;
use support::Ending::{Completed, Declined, PartlyReturned};
use support::{Order, hear, level, noon, story};
use tower::ServiceExt;

async fn shop() -> (Router, PgPool) {
    let pool = testbed::database(&MIGRATIONS).await;
    let app = api::App {
        db: Db::new(pool.clone()),
    };
    (chassis::surface(api::routes(app)), pool)
}

async fn get(routes: &Router, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = routes.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn order(ending: support::Ending, currency: &'static str, at: i64) -> Order {
    Order {
        ending,
        quantity: 2,
        price: 500,
        currency,
        at,
    }
}

#[tokio::test]
async fn a_shop_that_has_seen_nothing_says_so() {
    let (routes, _pool) = shop().await;
    let (_, summary) = get(&routes, "/v1/summary").await;
    let nothing = json!({ "orders_placed": 0, "orders_completed": 0, "orders_cancelled": 0,
                          "orders_returned": 0, "revenue": 0, "refunded": 0, "currency": "EUR", "as_of": null, "lag": 0 });
    assert_eq!(summary, nothing);
    let (_, latency) = get(&routes, "/v1/latency").await;
    assert_eq!(
        latency,
        json!({ "count": 0, "p50_ms": null, "p95_ms": null, "p99_ms": null, "max_ms": null })
    );
    let (_, funnel) = get(&routes, "/v1/funnel").await;
    assert_eq!(
        (&funnel["placed"], &funnel["cancelled_by_reason"]),
        (&json!(0), &json!({}))
    );
    let (_, sales) = get(&routes, "/v1/sales?by=minute").await;
    assert_eq!(sales, json!({ "items": [], "next_cursor": null }));
}

#[tokio::test]
async fn the_summary_is_in_the_currency_with_most_revenue() {
    let (routes, pool) = shop().await;
    for (ending, currency) in [
        (Completed, "GBP"),
        (PartlyReturned, "GBP"),
        (Completed, "EUR"),
        (Declined, "EUR"),
    ] {
        hear(&pool, &story(&order(ending, currency, 0))).await;
    }
    let (_, summary) = get(&routes, "/v1/summary").await;
    let counts = ["orders_placed", "orders_completed", "orders_cancelled", "revenue"].map(|field| &summary[field]);
    assert_eq!(counts, [4, 3, 1, 2 * 2_490 - 1_000]);
    assert_eq!(summary["currency"], "GBP");
}

#[tokio::test]
async fn sales_are_listed_by_minute_and_by_product() {
    let (routes, pool) = shop().await;
    for (currency, at) in [("EUR", 0), ("EUR", 1), ("GBP", 1), ("EUR", 60)] {
        hear(&pool, &story(&order(Completed, currency, at))).await;
    }
    hear(&pool, &[level("tea", 7, 2), level("tea", 9, 1)]).await;
    let (_, by_minute) = get(&routes, "/v1/sales?by=minute").await;
    let row = |minute: &str, currency, orders| {
        json!({ "minute": minute, "currency": currency, "orders": orders, "units": 4 * orders,
                "revenue": 2_490 * orders })
    };
    let expected = [
        row("2026-01-05T12:02:00Z", "EUR", 1),
        row("2026-01-05T12:01:00Z", "GBP", 1),
        row("2026-01-05T12:01:00Z", "EUR", 2),
    ];
    assert_eq!(by_minute["items"], json!(expected));
    let (_, by_product) = get(&routes, "/v1/sales?by=product&limit=3").await;
    let tea = json!({ "sku": "tea", "name": "tea, as of 2", "available": 7, "currency": "EUR", "orders": 3,
                      "units": 9, "revenue": 4_500 });
    assert_eq!(by_product["items"][2], tea);
    assert_eq!(
        by_product["items"][0]["name"],
        Value::Null,
        "the cup was never described"
    );
}

#[tokio::test]
async fn pages_hold_every_row_once() {
    let (routes, pool) = shop().await;
    for (currency, at) in [("EUR", 0), ("GBP", 0), ("EUR", 60), ("GBP", 60), ("EUR", 120)] {
        hear(&pool, &story(&order(Completed, currency, at))).await;
    }
    for (by, expected) in [("minute", 5), ("product", 4)] {
        let (_, whole) = get(&routes, &format!("/v1/sales?by={by}")).await;
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let (_, page) = get(&routes, &format!("/v1/sales?by={by}&limit=2{cursor}")).await;
            seen.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
        }
        assert_eq!((seen.len(), &json!(seen)), (expected, &whole["items"]));
    }
}

#[tokio::test]
async fn the_funnel_counts_every_step_and_reason() {
    let (routes, pool) = shop().await;
    for ending in [Completed, Completed, Declined] {
        hear(&pool, &story(&order(ending, "EUR", 0))).await;
    }
    let (_, funnel) = get(&routes, "/v1/funnel").await;
    let steps = [
        "placed",
        "reserved",
        "paid",
        "confirmed",
        "shipped",
        "delivered",
        "completed",
        "cancelled",
    ];
    assert_eq!(steps.map(|step| &funnel[step]), [3, 3, 2, 2, 2, 2, 2, 1]);
    assert_eq!(funnel["cancelled_by_reason"], json!({ "PAYMENT_DECLINED": 1 }));
    let notified = json!({ "order_cancelled": 1, "order_confirmed": 2, "order_shipped": 2 });
    assert_eq!((&funnel["notified"], &funnel["not_notified"]), (&notified, &json!({})));
}

#[tokio::test]
async fn latency_is_measured_from_placed_to_completed() {
    let (routes, pool) = shop().await;
    let mut told = story(&order(Declined, "EUR", 0));
    for seconds in 1..=100 {
        let mut completed = story(&order(Completed, "EUR", 0));
        completed.last_mut().unwrap().envelope.occurred_at = noon() + chrono::TimeDelta::seconds(seconds);
        told.extend(completed);
    }
    hear(&pool, &told).await;
    let (_, latency) = get(&routes, "/v1/latency").await;
    let expected = json!({ "count": 100, "p50_ms": 50_500, "p95_ms": 95_050, "p99_ms": 99_010, "max_ms": 100_000 });
    assert_eq!(latency, expected);
}

#[tokio::test]
async fn lag_is_how_long_after_it_was_told_the_newest_event_was_handled() {
    let (routes, pool) = shop().await;
    let mut told = story(&order(Completed, "EUR", 0));
    let newest = chrono::Utc::now() - chrono::TimeDelta::seconds(5);
    told.last_mut().unwrap().envelope.occurred_at = newest;
    hear(&pool, &told).await;
    hear(&pool, &told[..3]).await;
    let (_, summary) = get(&routes, "/v1/summary").await;
    let as_of: chrono::DateTime<chrono::Utc> = summary["as_of"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        as_of.timestamp_micros(),
        newest.timestamp_micros(),
        "an older event does not turn the clock back"
    );
    let longest = (chrono::Utc::now() - newest).num_milliseconds();
    assert!(
        (4_900..=longest + 100).contains(&summary["lag"].as_i64().unwrap()),
        "{summary}"
    );
}

#[tokio::test]
async fn what_cannot_be_a_query_is_a_problem_that_names_the_field() {
    let (routes, _pool) = shop().await;
    for (query, field) in [
        ("by=month", "by"),
        ("limit=1", "by"),
        ("by=minute&limit=0", "limit"),
        ("by=minute&cursor=x", "cursor"),
    ] {
        let (status, problem) = get(&routes, &format!("/v1/sales?{query}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        assert_eq!(problem["errors"][0]["field"], field);
    }
}
