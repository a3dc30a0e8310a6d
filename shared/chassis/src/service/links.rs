//! The links of a service: to its database, which it brings up to date, and to its broker.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_nats::{Event, jetstream};
use messaging::{Db, Trouble};
use secrecy::{ExposeSecret, SecretString};
use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgPool};

use crate::Config;

/// How often the broker must show that it is there. A server that has missed three is left for another one.
const PING: Duration = Duration::from_secs(5);

/// The database as its owner, connected to when there is something to do.
pub(super) fn owner(url: &SecretString) -> Result<Db> {
    let options = PgConnectOptions::from_str(url.expose_secret()).context("OWNER_DATABASE_URL")?;
    let pool = PgPoolOptions::new().max_connections(2);
    Ok(Db::new(pool.connect_lazy_with(limited(options, "replay"))))
}

/// No statement, lock or transaction takes for ever.
fn limited(options: PgConnectOptions, name: &'static str) -> PgConnectOptions {
    options.application_name(name).options([
        ("statement_timeout", "5s"),
        ("lock_timeout", "3s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ])
}

/// Waits for the database, which may start later than the service.
pub(super) async fn connect(name: &'static str, config: &Config) -> Result<PgPool> {
    let options = PgConnectOptions::from_str(config.database_url.expose_secret()).context("DATABASE_URL")?;
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
        .connect_lazy_with(limited(options, name));
    while let Err(error) = pool.acquire().await {
        // The right to connect is granted with that to everything else.
        let will_pass =
            |code: &str| code.starts_with("57") || code.starts_with("53") || !config.migrate && code == "42501";
        if let sqlx::Error::Database(refusal) = &error
            && !refusal.code().is_some_and(|code| will_pass(&code))
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

/// Waits until somebody else has brought the tables up to date; what they have besides is for a later release.
pub(super) async fn migrated(pool: &PgPool, migrations: &Migrator) -> Result<()> {
    let mut said = None;
    loop {
        let lacking = match lacking(pool, migrations).await? {
            None => return Ok(()),
            Some(lacking) => lacking,
        };
        if said.as_ref() != Some(&lacking) {
            tracing::warn!(
                lacking,
                "waiting for the tables, which `shop migrate` brings up to date"
            );
            said = Some(lacking);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What the tables lack, if anything. A migration that was applied as something else is never waited for.
async fn lacking(pool: &PgPool, migrations: &Migrator) -> Result<Option<String>> {
    let listed = sqlx::query_as("select version, checksum from _sqlx_migrations where success");
    let applied: BTreeMap<i64, Vec<u8>> = match listed.fetch_all(pool).await {
        Ok(rows) => rows.into_iter().collect(),
        Err(error) => match error.as_database_error().and_then(DatabaseError::code).as_deref() {
            // No such table, or no right to read it yet: that is granted last.
            Some("42P01" | "42501") => return Ok(Some("everything".into())),
            _ => match Trouble::from(error) {
                Trouble::Broken(reason) => bail!("the list of migrations cannot be read: {reason}"),
                away => return Ok(Some(away.to_string())),
            },
        },
    };
    for migration in migrations.iter() {
        match applied.get(&migration.version) {
            None => return Ok(Some(format!("migration {}", migration.version))),
            Some(checksum) if *checksum != *migration.checksum => {
                bail!("migration {} was applied as something else", migration.version)
            }
            Some(_) => {}
        }
    }
    Ok(None)
}

/// Connects in the background and for ever: orders are accepted while the broker is away.
pub(super) async fn broker(name: &'static str, url: &str) -> Result<jetstream::Context> {
    let (options, servers) = messaging::broker::options(url)?;
    let client = options
        .name(name)
        .custom_inbox_prefix(messaging::broker::inbox(name))
        .ping_interval(PING)
        .retry_on_initial_connect()
        .event_callback(|event| async move {
            match event {
                Event::ServerError(refusal) => tracing::warn!(%refusal, "the broker refuses something"),
                event => tracing::info!(%event, "broker"),
            }
        })
        .connect(servers)
        .await
        .context("NATS_URL")?;
    Ok(jetstream::new(client))
}
