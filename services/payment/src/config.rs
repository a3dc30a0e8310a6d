//! What the payment service must be told.

use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use reqwest::Url;
use secrecy::SecretString;

/// Read from the environment; `--help` lists every variable.
#[derive(Debug, Clone, Parser)]
#[command(name = "payment", about = "Payments as event-sourced aggregates, a ledger, refunds")]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub chassis: chassis::Config,

    /// The payment gateway, which speaks Stripe's API.
    #[arg(long, env = "GATEWAY_URL", default_value = "http://127.0.0.1:8010")]
    pub gateway_url: Url,

    /// The secret key that the gateway gave us.
    #[arg(long, env = "GATEWAY_KEY", default_value = "sk_test_tidings", hide_env_values = true)]
    pub gateway_key: SecretString,

    /// The secret with which the gateway signs its notices to `/v1/webhooks/gateway`.
    #[arg(
        long,
        env = "GATEWAY_WEBHOOK_SECRET",
        default_value = "whsec_tidings",
        hide_env_values = true
    )]
    pub gateway_webhook_secret: SecretString,

    /// How long one call to the gateway may take, in milliseconds.
    #[arg(long, env = "GATEWAY_TIMEOUT_MS", default_value_t = 5_000, value_parser = at_least_one())]
    pub gateway_timeout_ms: u64,

    /// How long after a call that was never answered the gateway may still charge, or not yet find the charge,
    /// in milliseconds. Until then a cancelled order is not told that nothing was taken.
    #[arg(long, env = "GATEWAY_SETTLES_WITHIN_MS", default_value_t = 10_000, value_parser = at_least_one())]
    pub gateway_settles_within_ms: u64,

    /// How long after the first attempt a charge is given up, in milliseconds; the order's own deadline may be sooner.
    #[arg(long, env = "PAYMENT_GIVE_UP_AFTER_MS", default_value_t = 30_000, value_parser = at_least_one())]
    pub give_up_after_ms: u64,
}

fn at_least_one() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=86_400_000)
}

/// How long the service waits for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For one call to the gateway.
    pub call: Duration,
    /// For a call that was never answered to show its effect.
    pub settles_within: Duration,
    /// For a charge, from its first attempt.
    pub give_up_after: Duration,
}

impl Patience {
    /// How long an errand may hold a payment: a look-up, a charge and a cancellation, with time to settle them.
    pub fn lease(&self) -> Duration {
        self.call * 3 + Duration::from_secs(15)
    }
}

impl Config {
    /// Reads the environment; a bad value ends the process with a sentence that names it.
    pub fn from_env() -> Self {
        chassis::from_env()
    }

    /// The waiting times as durations.
    pub fn patience(&self) -> Patience {
        Patience {
            call: Duration::from_millis(self.gateway_timeout_ms),
            settles_within: Duration::from_millis(self.gateway_settles_within_ms),
            give_up_after: Duration::from_millis(self.give_up_after_ms),
        }
    }
}
