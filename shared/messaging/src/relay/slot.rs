//! The replication slot: PostgreSQL's memory of how far the log was read.
//!
//! There is one for each service, named after its database, whose `oid` no other database of the
//! cluster has. It may be lost, dropped and made anew at any time: the outbox is the truth, the log
//! only tells of it sooner. Only the leader makes it, and only who could be the leader drops it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use percent_encoding::percent_decode_str;
use pgwire_replication::config::TlsConfig;
use pgwire_replication::{ReplicationClient, ReplicationConfig};
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection, PgExecutor};
use tokio::time::timeout;

/// What the slot tells of: inserts into the outbox.
const PUBLICATION: &str = "outbox_relay";
/// How long the server waits for a word of ours. It asks for one after half of it, so we hear as often from it.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);
/// How long a slot may take to be made: it waits for every transaction that is under way in the cluster.
const MADE_WITHIN: Duration = Duration::from_secs(60);
/// How often progress is reported.
const REPORT: Duration = Duration::from_secs(1);

/// What the server says of our slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Its name in `pg_replication_slots`.
    pub name: String,
    /// Whether somebody reads it.
    pub active: bool,
    /// `reserved` or `extended` while all is well, `unreserved` when it is about to be `lost`.
    pub wal_status: String,
    /// How many bytes of the log were not confirmed yet.
    pub lag_bytes: i64,
}

/// The slot of this database, if there is one.
pub async fn status(db: impl PgExecutor<'_>) -> sqlx::Result<Option<Slot>> {
    sqlx::query_as!(
        Slot,
        r#"
        select slot_name::text as "name!", active as "active!", coalesce(wal_status, 'lost') as "wal_status!",
               coalesce(pg_current_wal_lsn() - confirmed_flush_lsn, 0)::bigint as "lag_bytes!"
        from pg_replication_slots
        where slot_name = 'outbox_' || (select oid from pg_database where datname = current_database())
        "#
    )
    .fetch_optional(db)
    .await
}

pub(crate) async fn exists(db: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    Ok(status(db).await?.is_some())
}

/// Drops the slot, taking it from whoever still reads it; the caller must be the leader.
pub(crate) async fn discard(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        select pg_drop_replication_slot(slot_name) as dropped from (
            select slot_name, active_pid is null or pg_terminate_backend(active_pid, 5000) as free
            from pg_replication_slots
            where slot_name = 'outbox_' || (select oid from pg_database where datname = current_database())
            offset 0
        ) as ours where free
        "#
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Reads the log from where the slot remembers, or from now on with `anew`; the caller must be the leader.
pub(crate) async fn follow(options: &PgConnectOptions, anew: bool) -> Result<ReplicationClient> {
    ensure!(
        !matches!(
            options.get_ssl_mode(),
            PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull
        ),
        "DATABASE_URL asks for TLS, which reading the log knows nothing of"
    );
    let limit = MADE_WITHIN.as_millis().to_string();
    let own = options
        .clone()
        .application_name("relay slot")
        .options([("statement_timeout", limit.as_str()), ("lock_timeout", "3s")]);
    let mut session = own.connect().await?;
    let name = ready(&mut session, anew).await?;
    let mut client = ReplicationClient::connect(config(options, name)?).await?;
    timeout(SILENCE, client.wait_started())
        .await
        .context("the server does not begin")??;
    session.close().await?;
    Ok(client)
}

/// Makes what is missing and takes the slot from a predecessor that no longer leads; returns the slot's name.
async fn ready(session: &mut PgConnection, anew: bool) -> Result<String> {
    let published = sqlx::query_scalar!(
        r#"select exists (select from pg_publication where pubname = $1) as "exists!""#,
        PUBLICATION
    );
    // Before the slot: the log is read with the publications of its time.
    let unpublished = !published.fetch_one(&mut *session).await?;
    if unpublished {
        sqlx::query("create publication outbox_relay for table outbox with (publish = 'insert')")
            .execute(&mut *session)
            .await
            .context("the publication cannot be made")?;
    }
    let known = status(&mut *session).await?;
    if let Some(slot) = &known
        && !anew
        && !unpublished
        && slot.wal_status != "lost"
    {
        take(session).await?;
        return Ok(slot.name.clone());
    }
    if let Some(slot) = known {
        tracing::warn!(
            slot = slot.name,
            wal_status = slot.wal_status,
            "the replication slot is made anew"
        );
        discard(&mut *session).await.context("the old slot cannot be dropped")?;
    }
    // The role needs the attribute REPLICATION for this, and the server `wal_level = logical`.
    let made = sqlx::query_scalar!(
        r#"
        select (pg_create_logical_replication_slot(('outbox_' || oid)::name, 'pgoutput')).slot_name::text as "name!"
        from pg_database where datname = current_database()
        "#
    );
    made.fetch_one(session).await.context("the slot cannot be made")
}

/// Ends whoever still reads the slot: a process that stands still, or whose link has died in silence.
async fn take(session: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query_scalar!(
        r#"
        select pg_terminate_backend(active_pid, 5000) as ended from pg_replication_slots
        where slot_name = 'outbox_' || (select oid from pg_database where datname = current_database())
          and active_pid is not null
        "#
    )
    .fetch_all(session)
    .await?;
    Ok(())
}

/// Whether it is the slot's own fault: it is gone, was invalidated, or lacks the log or the publication that it needs.
pub(crate) fn is_useless(error: &str) -> bool {
    ["42704", "55000", "58P01"]
        .iter()
        .any(|code| error.contains(&format!("SQLSTATE {code}")))
}

/// The same server as the pool's.
fn config(options: &PgConnectOptions, slot: String) -> Result<ReplicationConfig> {
    let url = options.to_url_lossy();
    let password = percent_decode_str(url.password().unwrap_or_default()).decode_utf8()?;
    let socket = options.get_socket().map(|folder| folder.to_string_lossy());
    let host = socket.unwrap_or_else(|| options.get_host().into());
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    let mut config = ReplicationConfig::new(host, user, password, database, slot, PUBLICATION)
        .with_port(options.get_port())
        .with_tls(TlsConfig::disabled())
        .with_status_interval(REPORT)
        // Never by itself: the server then asks, and we learn that it is there.
        .with_wakeup_interval(SILENCE * 4)
        .with_application_name("relay")
        .with_options(format!(
            "-c datestyle=ISO -c timezone=UTC -c wal_sender_timeout={}",
            SILENCE.as_millis()
        ));
    config.buffer_events = 4_096;
    Ok(config)
}
