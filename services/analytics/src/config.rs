//! What the analytics service must be told.

use clap::Parser;
use secrecy::{ExposeSecret, SecretString};

/// Read from the environment; `--help` lists every variable.
#[derive(Debug, Clone, Parser)]
#[command(name = "analytics", about = "Projections of what happened in the shop")]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub chassis: chassis::Config,

    /// The same database as `DATABASE_URL`, as the role that owns its tables: a replay makes tables and exchanges them. Not
    /// needed where `DATABASE_URL` names the owner itself.
    #[arg(long, env = "OWNER_DATABASE_URL", hide_env_values = true)]
    owner_database_url: Option<SecretString>,
}

impl Config {
    /// Reads the environment; a bad value ends the process with a sentence that names it.
    pub fn from_env() -> Self {
        chassis::from_env()
    }

    /// The owner's address, if one was given; an empty one, as templates of environments have it, is none.
    pub(crate) fn owner_database_url(&self) -> Option<&SecretString> {
        let given = |url: &&SecretString| !url.expose_secret().is_empty();
        self.owner_database_url.as_ref().filter(given)
    }
}
