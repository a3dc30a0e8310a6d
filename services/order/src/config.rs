//! What the order service must be told.

use std::time::Duration;

use clap::Parser;
use reqwest::Url;

use crate::domain::Patience;

/// Read from the environment; `--help` lists every variable.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "order",
    about = "Takes orders, and owns their state from the first event to the last"
)]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub chassis: chassis::Config,

    /// Where the inventory service is asked for prices and stock.
    #[arg(long, env = "INVENTORY_URL", default_value = "http://127.0.0.1:8003")]
    pub inventory_url: Url,

    /// How long that answer may take, in milliseconds, before the local catalogue is used instead.
    #[arg(long, env = "STOCK_CHECK_TIMEOUT_MS", default_value_t = 200)]
    pub stock_check_timeout_ms: u64,

    /// How long a customer's order may stay unpaid, in milliseconds, before it is given up.
    #[arg(long, env = "ORDER_PAY_WITHIN_MS", default_value_t = 15 * 60 * 1000)]
    pub pay_within_ms: u64,

    /// How long an order may wait for another service, in milliseconds, before it needs a human's attention: once it
    /// is overdue, confirmed but not scheduled, or being undone.
    #[arg(long, env = "ATTENTION_AFTER_MS", default_value_t = 2 * 60 * 1000)]
    pub attention_after_ms: u64,

    /// The same while its parcel is packed and carried, in milliseconds.
    #[arg(long, env = "PARCEL_ATTENTION_AFTER_MS", default_value_t = 7 * 24 * 60 * 60 * 1000)]
    pub parcel_attention_after_ms: u64,
}

impl Config {
    /// Reads the environment; a bad value ends the process with a sentence that names it.
    pub fn from_env() -> Self {
        chassis::from_env()
    }

    /// How long an order may stand still.
    pub fn patience(&self) -> Patience {
        Patience {
            services: Duration::from_millis(self.attention_after_ms),
            parcel: Duration::from_millis(self.parcel_attention_after_ms),
        }
    }
}
