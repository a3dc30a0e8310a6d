//! What every service must be told, by environment variables of the same names everywhere.

use std::net::SocketAddr;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser};
use messaging::relay;
use secrecy::SecretString;
use telemetry::LogFormat;

/// The part of the configuration that all services share.
#[derive(Debug, Clone, Args)]
// The group would be named like that of the struct that flattens this one.
#[group(skip)]
pub struct Config {
    /// The service's own PostgreSQL database, `postgres://user:password@host/database`.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: SecretString,

    /// How many connections to it at most, beside those of the relay.
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 10)]
    pub database_connections: u32,

    /// Whether the service brings its tables up to date at its start, for which `DATABASE_URL` must name their owner. If not
    /// it waits until `shop migrate` has, and never changes them.
    #[arg(long, env = "MIGRATE", default_value_t = true, action = ArgAction::Set)]
    pub migrate: bool,

    /// The NATS server or servers, comma-separated.
    #[arg(
        long,
        env = "NATS_URL",
        default_value = "nats://127.0.0.1:4222",
        hide_env_values = true
    )]
    pub nats_url: String,

    /// Where the public API listens.
    #[arg(long, env = "HTTP_ADDR")]
    pub http_addr: SocketAddr,

    /// Where health, metrics and the operator's endpoints listen; never to be exposed.
    #[arg(long, env = "ADMIN_ADDR")]
    pub admin_addr: SocketAddr,

    /// How the relay learns of new events: `polling` the table, or `cdc`, reading PostgreSQL's log. `cdc` needs
    /// `wal_level = logical` and the attribute REPLICATION for the role; while it lacks them it polls.
    #[arg(long, env = "RELAY", default_value_t)]
    pub relay: relay::Kind,

    /// How old the oldest unpublished event may be, in milliseconds, before requests that change something are answered
    /// 503: the broker may be away for minutes, but what is accepted must not wait for ever.
    #[arg(long, env = "OUTBOX_AGE_LIMIT_MS", default_value_t = 900_000)]
    pub outbox_age_limit_ms: u64,

    /// How long requests are still accepted after SIGTERM while `/readyz` answers 503, in milliseconds. In Kubernetes,
    /// as long as endpoints take to forget a pod, 5000 say, and at most 9000 less than the pod's grace period of 30 s.
    #[arg(long, env = "DRAIN_GRACE_MS", default_value_t = 0)]
    pub drain_grace_ms: u64,

    /// How log lines look: `pretty` or `json`.
    #[arg(long, env = "LOG_FORMAT", default_value = "pretty")]
    pub log_format: LogFormat,
}

/// Reads a service's configuration; a bad or missing value ends the process with a sentence that names its variable.
pub fn from_env<C: Parser + CommandFactory + FromArgMatches>() -> C {
    let command = C::command().mut_args(|argument| match argument.get_env().and_then(|name| name.to_str()) {
        Some(name) => {
            let name = name.to_owned();
            argument.value_name(name)
        }
        None => argument,
    });
    C::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}
