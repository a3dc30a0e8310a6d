//! What the order service asks of others while a client waits: prices and stock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chassis::client;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::json;

use crate::domain::{Offer, WishedLine};

/// After so many failures in a row, inventory is left alone for a while.
const FAILURES: u32 = 5;
/// For how long.
const PAUSE: Duration = Duration::from_secs(1);

/// The inventory service, asked with a budget.
pub struct Inventory {
    client: Client,
    url: Url,
    budget: Duration,
    failures: AtomicU32,
    /// Milliseconds since `started` before which it is left alone.
    open_until: AtomicU32,
    started: Instant,
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
            failures: AtomicU32::new(0),
            open_until: AtomicU32::new(0),
            started: Instant::now(),
        })
    }

    /// Prices and stock of these articles by sku, or none when inventory does not answer in time.
    pub async fn offers(&self, lines: &[WishedLine]) -> Option<BTreeMap<String, Offer>> {
        if self.now() < self.open_until.load(Ordering::Relaxed) {
            return None;
        }
        let answer = tokio::time::timeout(self.budget, self.ask(lines)).await;
        match answer.map_err(anyhow::Error::from).and_then(|answer| answer) {
            Ok(checked) => {
                self.failures.store(0, Ordering::Relaxed);
                Some(
                    checked
                        .items
                        .into_iter()
                        .map(|offer| (offer.sku.clone(), offer))
                        .collect(),
                )
            }
            Err(error) => {
                self.count_failure(&error);
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

    /// A circuit breaker: while it is open nobody waits for a service that is down.
    fn count_failure(&self, error: &anyhow::Error) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= FAILURES {
            self.open_until
                .store(self.now() + PAUSE.as_millis() as u32, Ordering::Relaxed);
        }
        if failures == 1 || failures == FAILURES {
            tracing::warn!(
                error = format!("{error:#}"),
                failures,
                "inventory does not answer, using the local catalogue"
            );
        }
    }

    fn now(&self) -> u32 {
        self.started.elapsed().as_millis() as u32
    }
}
