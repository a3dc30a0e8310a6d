//! What a new shop has on its shelves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Response};
use serde_json::{Value, json};

use super::{Service, Shop};

const CURRENCY: &str = "EUR";
/// Pieces of each.
const STOCK: i64 = 1_000;
const HEARD_WITHIN: Duration = Duration::from_secs(60);
/// How long inventory may take to appear, for a container that starts beside it.
const APPEARS_WITHIN: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(500);

/// Sku, name, price of one piece in cents.
const PRODUCTS: [(&str, &str, i64); 20] = [
    ("TEA-ASSAM", "Assam, strong and malty, 100 g", 690),
    ("TEA-CEYLON", "Ceylon Highlands, bright, 100 g", 720),
    ("TEA-DARJEELING", "Darjeeling First Flush, 100 g", 1_490),
    ("TEA-EARLGREY", "Earl Grey with bergamot, 100 g", 790),
    ("TEA-GENMAICHA", "Genmaicha, green tea and roasted rice, 100 g", 890),
    ("TEA-JASMINE", "Jasmine Pearls, hand-rolled, 50 g", 1_290),
    ("TEA-OOLONG", "Milk Oolong, creamy, 100 g", 1_690),
    ("TEA-PUERH", "Pu-erh, aged ten years, 100 g", 2_490),
    ("TEA-ROOIBOS", "Rooibos, caffeine-free, 200 g", 590),
    ("TEA-SENCHA", "Sencha, steamed, 100 g", 990),
    ("HERB-CHAMOMILE", "Chamomile flowers, 75 g", 450),
    ("HERB-PEPPERMINT", "Peppermint leaves, 75 g", 420),
    ("MUG-BLUE", "Stoneware mug, blue, 350 ml", 1_450),
    ("MUG-WHITE", "Porcelain mug, white, 300 ml", 1_250),
    ("CUP-GLASS", "Double-walled glass cup, 250 ml", 1_190),
    ("POT-CAST-IRON", "Cast-iron teapot, 800 ml", 5_900),
    ("POT-GLASS", "Glass teapot with strainer, 1 l", 3_450),
    ("STRAINER", "Fine steel strainer", 890),
    ("TIN-100", "Tea tin for 100 g", 650),
    ("KETTLE", "Gooseneck kettle with thermometer, 1 l", 6_990),
];

/// Lists the products and puts them on the shelves, unless something is listed already; returns how many were. An
/// inventory that is not there yet is waited for.
pub async fn seed(client: &Client, inventory_url: &str) -> Result<usize> {
    let products = format!("{inventory_url}/v1/products");
    if is_listed(client, &products).await? {
        return Ok(0);
    }
    for (sku, name, price) in PRODUCTS {
        let product = format!("{products}/{sku}");
        let description = json!({ "name": name, "price": price, "currency": CURRENCY });
        accepted(client.put(&product).json(&description), sku).await?;
        let delivery = json!({ "delta": STOCK, "reason": "opening stock" });
        accepted(client.post(format!("{product}/stock")).json(&delivery), sku).await?;
    }
    Ok(PRODUCTS.len())
}

async fn is_listed(client: &Client, products: &str) -> Result<bool> {
    let deadline = Instant::now() + APPEARS_WITHIN;
    let page: Value = loop {
        let asked = client.get(products).query(&[("limit", "1")]).send().await;
        match asked.and_then(Response::error_for_status) {
            Ok(first) => break first.json().await?,
            Err(error) if Instant::now() > deadline => return Err(error).context("inventory does not answer"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    let listed = page["items"].as_array().context("inventory lists no items")?;
    Ok(!listed.is_empty())
}

impl Shop {
    /// Fills an empty catalogue, and returns once the order service has heard of it: it can do without inventory from the
    /// beginning.
    pub(super) async fn fill_shelves(&self) -> Result<()> {
        (self.options.progress)("Filling the shelves.");
        match seed(&self.client, &self.url(Service::Inventory)).await? {
            0 => Ok(()),
            _ => self.drained(HEARD_WITHIN).await,
        }
    }
}

async fn accepted(request: reqwest::RequestBuilder, sku: &str) -> Result<()> {
    let answer = request.send().await?;
    let status = answer.status();
    let body = answer.text().await?;
    ensure!(status.is_success(), "inventory refuses {sku} with {status}: {body}");
    Ok(())
}
