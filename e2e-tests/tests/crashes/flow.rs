//! Customers of every kind, for as long as something is to be broken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use e2e_tests::{Service, Wish, World};
use futures_util::stream::{self, StreamExt};
use serde_json::json;
use uuid::Uuid;

const SKUS: [&str; 4] = ["TEA-ASSAM", "TEA-DARJEELING", "TEA-SENCHA", "TEA-JASMINE"];
/// How many customers come at once, so that there are batches.
const AT_ONCE: usize = 5;
const BETWEEN: Duration = Duration::from_millis(500);

/// The order of a customer, who repeats everything until it is answered, under one key.
async fn customer(world: &World, number: usize) -> anyhow::Result<Uuid> {
    let wish = Wish::of(SKUS[number % SKUS.len()]);
    let wish = match number % 10 {
        3 => wish.paid_by("pm_card_chargeDeclined"),
        6 => wish.to("XX"),
        9 => wish.paid_by("pm_card_timeoutAfterCharge"),
        _ => wish,
    };
    let id = world.place_stubbornly(&wish).await?;
    if number % 10 == 4 {
        world
            .until("the wish to cancel is answered", || async {
                let (status, body) = world.cancel(id).await?;
                ensure!(matches!(status.as_u16(), 200 | 202 | 409), "{status}: {body}");
                Ok(Some(()))
            })
            .await?;
    }
    Ok(id)
}

/// Lets customers come until it is over; their orders, one each.
pub(crate) async fn customers(world: &World, over: &AtomicBool) -> anyhow::Result<Vec<Uuid>> {
    let waves = stream::unfold(0, |wave: usize| async move {
        if over.load(Ordering::Relaxed) {
            return None;
        }
        // Customers come whether or not those before them were served.
        tokio::time::sleep(BETWEEN).await;
        let numbers = wave * AT_ONCE..(wave + 1) * AT_ONCE;
        Some((stream::iter(numbers), wave + 1))
    });
    let placed = waves.flatten().map(|number| customer(world, number));
    let placed: Vec<_> = placed.buffer_unordered(30 * AT_ONCE).collect().await;
    placed.into_iter().collect()
}

/// Fills the shelves until it is over, and does not care whether a delivery is counted.
pub(crate) async fn deliveries(world: &World, over: &AtomicBool) -> anyhow::Result<()> {
    while !over.load(Ordering::Relaxed) {
        for sku in SKUS {
            let stock = format!("{}/v1/products/{sku}/stock", world.shop.url(Service::Inventory));
            let delivery = json!({ "delta": 10, "reason": "delivery" });
            let _ = world.http.post(stock).json(&delivery).send().await;
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(())
}
