//! How long the service waits for others, how it says that it has waited for too long, and how long tests wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::json;

use crate::{Shop, wish};

/// Awaits a condition.
pub(crate) async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let met = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let patience = Duration::from_secs(60);
    assert!(tokio::time::timeout(patience, met).await.is_ok(), "it never was");
}

/// Row 27: Once inventory has not answered five times in a row, orders are taken without asking it; one a second tries.
#[tokio::test]
async fn an_inventory_that_hangs_is_soon_left_alone_and_orders_are_taken_without_it() {
    let stalled = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shop = Shop::beside(&format!("http://{}", stalled.local_addr().unwrap())).await;
    let asked = Arc::new(AtomicU64::new(0));
    let counter = asked.clone();
    tokio::spawn(async move {
        // Accepts, keeps and never answers.
        let mut kept = Vec::new();
        while let Ok(connection) = stalled.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            kept.push(connection);
        }
    });
    let started = Instant::now();
    for _ in 0..40 {
        let placed = shop.post("/v1/orders", &wish(), None).await;
        assert_eq!(
            (placed.status, &placed.body["stock_check"]),
            (StatusCode::CREATED, &json!("skipped"))
        );
    }
    let (asked, probes) = (asked.load(Ordering::Relaxed), started.elapsed().as_secs() + 1);
    assert!(
        (5..=5 + probes).contains(&asked),
        "inventory was asked {asked} times for 40 orders"
    );
}

/// Row 33: An order that stands still for longer than it may says so in its saga, and is listed for the operator.
#[tokio::test]
async fn an_order_that_stands_still_needs_attention_and_is_found() {
    let shop = Shop::open().await;
    let placed = [
        shop.post("/v1/orders", &wish(), None).await,
        shop.post("/v1/orders", &wish(), None).await,
    ];
    let [stuck, fine] = placed.map(|order| order.body["id"].as_str().unwrap().to_owned());
    let long_ago = sqlx::query("update orders set waits_since = now() - interval '3 minutes' where id = $1::uuid");
    long_ago.bind(&stuck).execute(&shop.pool).await.unwrap();
    for (id, needs_attention) in [(&stuck, true), (&fine, false)] {
        let saga = shop.get(&format!("/v1/orders/{id}/saga")).await;
        assert_eq!(saga.body["needs_attention"], json!(needs_attention));
    }
    let listed = shop.get("/v1/orders?needs_attention=true").await;
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(listed.body["items"][0]["id"], json!(stuck));
}
