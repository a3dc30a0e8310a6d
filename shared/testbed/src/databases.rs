//! What tests share: one cluster and one broker per process, and a fresh database per test.
//!
//! A test's database belongs to a role that is no superuser, and is reached as that role: what works here works with
//! the rights that a service has.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Result;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

use crate::roles::{self, create_role, run};
use crate::{Nats, Place, Postgres, blocking};

/// The role that owns the databases of tests.
const OWNER: &str = "service";

/// The cluster of this test process, started by the first caller, gone with the process.
///
/// # Panics
/// When it cannot be started, with the reason.
pub async fn postgres() -> &'static Postgres {
    static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
    shared(&SHARED, || Postgres::start_blocking(&Place::temporary(), &[])).await
}

/// The broker of this test process, started by the first caller, gone with the process.
///
/// # Panics
/// When it cannot be started, with the reason.
pub async fn nats() -> &'static Nats {
    static SHARED: OnceLock<Result<Nats, String>> = OnceLock::new();
    shared(&SHARED, || Nats::start_blocking(&Place::temporary(), "", &[])).await
}

/// A fresh database with these migrations, in the shared cluster.
///
/// # Panics
/// When it cannot be made, with the reason.
pub async fn database(migrator: &Migrator) -> PgPool {
    PgPoolOptions::new()
        .max_connections(10)
        .acquire_timeout(Duration::from_secs(30))
        .connect(&database_url(migrator).await)
        .await
        .unwrap_or_else(|error| panic!("cannot connect to a fresh database: {error}"))
}

/// The address of a fresh database with these migrations, for a service that connects by itself.
///
/// # Panics
/// When it cannot be made, with the reason.
pub async fn database_url(migrator: &Migrator) -> String {
    let cluster = postgres().await;
    match fresh(cluster, migrator).await {
        Ok(name) => cluster.socket_url_as(OWNER, &name),
        Err(error) => panic!("cannot make a fresh database: {error:#}"),
    }
}

async fn shared<T: Send + Sync>(cell: &'static OnceLock<Result<T, String>>, start: fn() -> Result<T>) -> &'static T {
    let started = blocking(move || Ok(cell.get_or_init(|| start().map_err(|error| format!("{error:#}"))))).await;
    match started {
        Ok(Ok(server)) => server,
        Ok(Err(reason)) => panic!("{reason}"),
        Err(error) => panic!("{error:#}"),
    }
}

/// Copies the template of these migrations, which the first caller makes while others wait.
async fn fresh(cluster: &Postgres, migrator: &Migrator) -> Result<String> {
    let key = fingerprint(migrator);
    let template = format!("template_{key:016x}");
    let name = format!("test_{:016x}", fastrand::u64(..));
    let mut admin = PgConnectOptions::from_str(&cluster.socket_url("postgres"))?
        .connect()
        .await?;

    sqlx::query("select pg_advisory_lock($1)")
        .bind(key.cast_signed())
        .execute(&mut admin)
        .await?;
    let known: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&template)
        .fetch_one(&mut admin)
        .await?;
    if !known {
        make_template(cluster, migrator, &template, &mut admin).await?;
    }
    sqlx::query("select pg_advisory_unlock($1)")
        .bind(key.cast_signed())
        .execute(&mut admin)
        .await?;

    run(
        &mut admin,
        format!("create database {name} template {template} owner {OWNER} strategy file_copy"),
    )
    .await?;
    admin.close().await?;
    Ok(name)
}

/// Migrates under another name first: a template that exists is whole.
async fn make_template(
    cluster: &Postgres,
    migrator: &Migrator,
    template: &str,
    admin: &mut PgConnection,
) -> Result<()> {
    let draft = format!("draft_of_{template}");
    run(admin, format!("drop database if exists {draft} with (force)")).await?;
    create_role(admin, OWNER, roles::OWNER).await?;
    run(admin, format!("create database {draft} owner {OWNER}")).await?;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect(&cluster.socket_url_as(OWNER, &draft))
        .await?;
    migrator.run(&pool).await?;
    pool.close().await;
    run(admin, format!("alter database {draft} rename to {template}")).await
}

fn fingerprint(migrator: &Migrator) -> u64 {
    let mut hasher = DefaultHasher::new();
    for migration in migrator.iter() {
        migration.version.hash(&mut hasher);
        migration.checksum.hash(&mut hasher);
    }
    hasher.finish()
}
