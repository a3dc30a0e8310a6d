//! What the orders cost: processor time and memory of every process, where the system tells.

use std::time::Duration;

use super::super::running::Running;
use super::super::usage::{megabytes, memory_of_family, time_of_family};

/// The processes of a shop, and the processor time that each had used before.
pub(super) struct Meter {
    before: Vec<(String, u32, Option<Duration>)>,
    /// How many of them, from the first, are services of ours.
    services: usize,
}

impl Meter {
    pub(super) fn start(shop: &Running) -> Self {
        let services = shop.services.iter().map(|service| (service.name.as_str(), service.pid));
        let others = [("sandbox-gateway", shop.gateway_pid), ("PostgreSQL", shop.postgres_pid)];
        let brokers = shop.nats_pids.iter().map(|pid| ("nats-server", *pid));
        let known = services
            .chain(others)
            .chain(brokers)
            .filter_map(|(name, pid)| Some((name.to_owned(), pid?)));
        Self {
            before: known.map(|(name, pid)| (name, pid, time_of_family(pid))).collect(),
            services: shop.services.len(),
        }
    }

    /// What has been used since, by process.
    pub(super) fn text(&self, orders: usize) -> String {
        let mut text = format!("{:<17}{:>18}{:>12}", "", "CPU ms an order", "memory");
        let mut sums = (Some(0.0), Some(0));
        for (at, (name, pid, before)) in self.before.iter().enumerate() {
            let used = time_of_family(*pid)
                .zip(*before)
                .map(|(now, before)| now.saturating_sub(before));
            let cost = used.map(|used| used.as_secs_f64() * 1e3 / orders.max(1) as f64);
            let memory = memory_of_family(*pid);
            text += &line(name, cost, memory);
            if at < self.services {
                let (all_cost, all_memory) = sums;
                sums = (
                    all_cost.zip(cost).map(|(a, b)| a + b),
                    all_memory.zip(memory).map(|(a, b)| a + b),
                );
            }
        }
        let (cost, memory) = sums;
        text + &line("all services", cost, memory)
    }
}

fn line(name: &str, cost: Option<f64>, memory: Option<u64>) -> String {
    let cost = cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.3}"));
    format!("\n{name:<17}{cost:>18}{:>12}", megabytes(memory))
}
