//! What the order service asks of others while a client waits: prices and stock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chassis::{Breaker, client};
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::json;

use crate::domain::{Offer, WishedLine};

/// The inventory service, asked with a budget.
pub struct Inventory {
    client: Client,
    url: Url,
    budget: Duration,
    breaker: Breaker,
}

#[derive(Deserialize)]
struct Checked {
    items: Vec<Offer>,
}

impl Inventory {
    /// The service at this address; an answer that takes longer than the budget counts as none.
    pub fn at(url: &Url, budget: Duration) -> anyhow::Result<Self> {
        Ok(Self {
            client: client::client(budget)?,
            url: url.join("/v1/stock-checks").context("INVENTORY_URL")?,
            budget,
            breaker: Breaker::before("inventory"),
        })
    }

    /// Prices and stock of these articles by sku, or none when inventory does not answer in time. While it does not,
    /// nobody waits for it: one request a second tries.
    pub async fn offers(&self, lines: &[WishedLine]) -> Option<BTreeMap<String, Offer>> {
        if self.breaker.admit(1, Instant::now()) == 0 {
            return None;
        }
        let answer = tokio::time::timeout(self.budget, self.ask(lines)).await;
        match answer.map_err(anyhow::Error::from).and_then(|answer| answer) {
            Ok(checked) => {
                self.breaker.answered(Instant::now());
                Some(
                    checked
                        .items
                        .into_iter()
                        .map(|offer| (offer.sku.clone(), offer))
                        .collect(),
                )
            }
            Err(error) => {
                self.breaker.unanswered(Instant::now());
                tracing::warn!(
                    error = format!("{error:#}"),
                    "no answer from inventory, using the local catalogue"
                );
                None
            }
        }
    }

    async fn ask(&self, lines: &[WishedLine]) -> anyhow::Result<Checked> {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| json!({ "sku": line.sku, "quantity": line.quantity }))
            .collect();
        let request = self
            .client
            .post(self.url.clone())
            .json(&json!({ "lines": lines }))
            .build()?;
        let response = client::send(&self.client, request, "inventory", "/v1/stock-checks").await?;
        Ok(response.error_for_status()?.json().await?)
    }
}
