//! Clients who place an order, wait for the answer, and place the next.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::try_join_all;
use reqwest::{Client, StatusCode};
use serde_json::json;
use uuid::Uuid;

/// Pieces in one order at most.
pub(super) const MOST_PIECES: i64 = 3;

/// What is to be placed, where, and by whom.
pub(super) struct Clients {
    pub(super) url: String,
    pub(super) skus: Vec<String>,
    pub(super) orders: usize,
    /// One for each client: how the orders of this run are told from others.
    pub(super) customers: Vec<Uuid>,
}

/// What came of it.
pub(super) struct Placed {
    pub(super) customers: Vec<Uuid>,
    /// How long each accepted order took to be answered, the quickest first.
    latencies: Vec<Duration>,
    /// How many were answered otherwise, by answer.
    pub(super) refused: BTreeMap<String, usize>,
}

impl Clients {
    /// Places exactly `orders` orders, refused ones included.
    pub(super) async fn run(self, client: &Client) -> Result<Placed> {
        let taken = AtomicUsize::new(0);
        let clients = self.customers.iter().map(async |customer| {
            let mut answers = Vec::new();
            while taken.fetch_add(1, Ordering::Relaxed) < self.orders {
                answers.push(self.place(client, *customer).await);
            }
            anyhow::Ok(answers)
        });
        let answers = try_join_all(clients).await?.into_iter().flatten();
        let (mut latencies, mut refused) = (Vec::with_capacity(self.orders), BTreeMap::new());
        for answer in answers {
            match answer {
                Ok(latency) => latencies.push(latency),
                Err(reason) => *refused.entry(reason).or_default() += 1,
            }
        }
        latencies.sort();
        Ok(Placed {
            customers: self.customers,
            latencies,
            refused,
        })
    }

    async fn place(&self, client: &Client, customer: Uuid) -> Result<Duration, String> {
        let sku = fastrand::choice(&self.skus);
        let order = json!({
            "customer": { "id": customer, "email": "load@example.com" },
            "lines": [{ "sku": sku, "quantity": fastrand::i64(1..=MOST_PIECES) }],
            "ship_to": {
                "name": "Load", "street": "Harbour Street 1", "city": "Hamburg", "postal_code": "20457",
                "country": "DE",
            },
            "payment_method": "pm_card_visa",
        });
        let sent = Instant::now();
        let answer = client.post(&self.url).json(&order).send().await;
        let answer = answer.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        let status = answer.status();
        let _body = answer.bytes().await;
        match status {
            StatusCode::CREATED => Ok(sent.elapsed()),
            other => Err(other.to_string()),
        }
    }
}

impl Placed {
    pub(super) fn accepted(&self) -> usize {
        self.latencies.len()
    }

    pub(super) fn text(&self, took: Duration) -> String {
        let rate = self.accepted() as f64 / took.as_secs_f64();
        let [half, most, nearly_all] = [50, 95, 99].map(|percent| self.percentile(percent).as_secs_f64() * 1e3);
        let mut text = format!(
            "accepted   {} in {:.2} s: {rate:.0} orders/s\n\
             POST       p50 {half:.1} ms, p95 {most:.1} ms, p99 {nearly_all:.1} ms",
            self.accepted(),
            took.as_secs_f64(),
        );
        for (reason, count) in &self.refused {
            text += &format!("\nrefused    {count} with {reason}");
        }
        text
    }

    fn percentile(&self, percent: usize) -> Duration {
        let at = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_percentile_of_a_hundred_is_the_99th() {
        let placed = |latencies: std::ops::RangeInclusive<u64>| Placed {
            customers: Vec::new(),
            latencies: latencies.map(Duration::from_millis).collect(),
            refused: BTreeMap::new(),
        };
        assert_eq!(placed(1..=100).percentile(99), Duration::from_millis(99));
        assert_eq!(placed(1..=100).percentile(50), Duration::from_millis(50));
        assert_eq!(placed(7..=7).percentile(50), Duration::from_millis(7));
        assert_eq!(placed(1..=3).percentile(99), Duration::from_millis(3));
    }
}
