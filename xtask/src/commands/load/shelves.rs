//! So much of everything that no order is refused for want of it.

use anyhow::{Context, Result, ensure};
use reqwest::Client;
use serde_json::{Value, json};

use super::clients::MOST_PIECES;

/// Adds stock for `orders` orders to every product, and returns their skus.
pub(super) async fn fill(client: &Client, inventory: &str, orders: usize) -> Result<Vec<String>> {
    let products = format!("{inventory}/v1/products");
    let listed = client
        .get(&products)
        .query(&[("limit", "100")])
        .send()
        .await?
        .error_for_status()?;
    let page: Value = listed.json().await?;
    let items = page["items"].as_array().map_or(&[][..], Vec::as_slice);
    let skus: Vec<String> = items
        .iter()
        .filter_map(|item| Some(item["sku"].as_str()?.to_owned()))
        .collect();
    ensure!(!skus.is_empty(), "the catalogue is empty");
    let delta = i64::try_from(orders)? * MOST_PIECES;
    for sku in &skus {
        let delivery = json!({ "delta": delta, "reason": "load" });
        let answer = client
            .post(format!("{products}/{sku}/stock"))
            .json(&delivery)
            .send()
            .await?;
        answer
            .error_for_status()
            .with_context(|| format!("inventory takes no stock of {sku}"))?;
    }
    Ok(skus)
}
