//! What the newcomer service must be told.

use clap::Parser;

/// Read from the environment; `--help` lists every variable.
#[derive(Debug, Clone, Parser)]
#[command(name = "newcomer", about = "Points for every OrderCompleted")]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub chassis: chassis::Config,
}

impl Config {
    /// Reads the environment; a bad value ends the process with a sentence that names it.
    pub fn from_env() -> Self {
        chassis::from_env()
    }
}
