//! What the warehouse service must be told.

use std::time::Duration;

use clap::{ArgAction, Parser};

/// Read from the environment; `--help` lists every variable.
#[derive(Debug, Clone, Parser)]
#[command(name = "warehouse", about = "Shipments, from the shelf to the customer")]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub chassis: chassis::Config,

    /// Whether parcels are dispatched and delivered, and returns received, unasked (`true`), or only by hand over
    /// HTTP (`false`).
    #[arg(long, env = "WAREHOUSE_AUTO", default_value_t = true, action = ArgAction::Set)]
    pub auto: bool,

    /// How long it takes to pick and pack a parcel, in milliseconds; 0 is as soon as possible.
    #[arg(long, env = "WAREHOUSE_PICK_MS", default_value_t = 100)]
    pub pick_ms: u32,

    /// How long a parcel is on its way, in milliseconds; 0 is as soon as possible.
    #[arg(long, env = "WAREHOUSE_DELIVERY_MS", default_value_t = 100)]
    pub delivery_ms: u32,

    /// How long returned goods are on their way, in milliseconds; 0 is as soon as possible.
    #[arg(long, env = "WAREHOUSE_RETURN_MS", default_value_t = 100)]
    pub return_ms: u32,
}

impl Config {
    /// Reads the environment; a bad value ends the process with a sentence that names it.
    pub fn from_env() -> Self {
        chassis::from_env()
    }

    /// How long a shipment stays scheduled at least.
    pub fn pick(&self) -> Duration {
        Duration::from_millis(self.pick_ms.into())
    }

    /// How long a shipment stays dispatched at least.
    pub fn delivery(&self) -> Duration {
        Duration::from_millis(self.delivery_ms.into())
    }

    /// How long a return stays awaited at least.
    pub fn return_delay(&self) -> Duration {
        Duration::from_millis(self.return_ms.into())
    }
}
