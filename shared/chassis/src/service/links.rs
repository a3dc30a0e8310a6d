//! The links of a service: to its database, which it brings up to date, and to its broker.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream;
use messaging::Trouble;
use secrecy::ExposeSecret;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgPool};

use crate::Config;

/// How often the broker must show that it is there. A server that has missed three is left for another one.
const PING: Duration = Duration::from_secs(5);

/// Waits for the database, which may start later than the service.
pub(super) async fn connect(name: &'static str, config: &Config) -> Result<PgPool> {
    let options = PgConnectOptions::from_str(config.database_url.expose_secret()).context("DATABASE_URL")?;
    let options = options.application_name(name).options([
        ("statement_timeout", "5s"),
        ("lock_timeout", "3s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(config.database_connections)
        .acquire_timeout(Duration::from_secs(2))
        // A connection whose link has died in silence would keep its place until TCP gives up.
        .after_release(|connection, _| {
            Box::pin(async move {
                let answered = tokio::time::timeout(Duration::from_secs(2), connection.ping()).await;
                answered.map_err(|_| sqlx::Error::PoolTimedOut)?.map(|()| true)
            })
        })
        .connect_lazy_with(options);
    while let Err(error) = pool.acquire().await {
        if let sqlx::Error::Database(refusal) = &error
            && !refusal
                .code()
                .is_some_and(|code| code.starts_with("57") || code.starts_with("53"))
        {
            return Err(error).context("DATABASE_URL: the database refuses the connection");
        }
        tracing::warn!(%error, "waiting for the database");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(pool)
}

/// Brings the tables up to date; a database that goes away meanwhile is waited for once more.
pub(super) async fn migrate(pool: &PgPool, migrations: &Migrator) -> Result<(), MigrateError> {
    loop {
        let error = match migrations.run(pool).await {
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => error,
            other => return other,
        };
        match Trouble::from(error) {
            Trouble::Unavailable(error) => tracing::warn!(%error, "the database went away, waiting to migrate it"),
            Trouble::Conflict(error) => tracing::warn!(%error, "somebody else migrates as well, trying again"),
            broken @ Trouble::Broken(_) => return Err(MigrateError::Source(broken.into())),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Connects in the background and for ever: orders are accepted while the broker is away.
pub(super) async fn broker(name: &'static str, url: &str) -> Result<jetstream::Context> {
    let (options, servers) = messaging::broker::options(url)?;
    let client = options
        .name(name)
        .custom_inbox_prefix(messaging::broker::inbox(name))
        .ping_interval(PING)
        .retry_on_initial_connect()
        .event_callback(|event| async move { tracing::info!(%event, "broker") })
        .connect(servers)
        .await
        .context("NATS_URL")?;
    Ok(jetstream::new(client))
}
