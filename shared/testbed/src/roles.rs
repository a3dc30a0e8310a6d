//! Databases with an owner: a role that may log in and read the log of its own database, is no superuser, and has nothing
//! else.

use std::str::FromStr;

use anyhow::{Context, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::Postgres;

/// Gives what a superuser has made in this database, before it had an owner, to its owner.
const ADOPT: &str = r#"do $$
declare
    owner name := (select pg_get_userbyid(datdba) from pg_database where datname = current_database());
    thing record;
begin
    for thing in
        select c.oid::regclass as name, case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind
        from pg_class c
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'S')
              and pg_get_userbyid(relowner) <> owner
              and not exists (select from pg_depend d where d.objid = c.oid and d.deptype in ('a', 'i') and relkind = 'S')
    loop
        execute format('alter %s %s owner to %I', thing.kind, thing.name, owner);
    end loop;
    for thing in
        select oid::regprocedure as name from pg_proc
        where pronamespace = 'public'::regnamespace and pg_get_userbyid(proowner) <> owner
    loop
        execute format('alter routine %s owner to %I', thing.name, owner);
    end loop;
end $$"#;

impl Postgres {
    /// Creates an empty database, unless one of this name exists, that belongs to a role of the same name.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        let mut admin = self.superuser("postgres").await?;
        let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(name)
            .fetch_one(&mut admin)
            .await?;
        let quoted = quoted(name);
        create_role(&mut admin, name, OWNER).await?;
        let change = match exists {
            true => format!("alter database {quoted} owner to {quoted}"),
            false => format!("create database {quoted} owner {quoted}"),
        };
        run(&mut admin, change)
            .await
            .with_context(|| format!("cannot create the database {name}"))?;
        run(&mut admin, format!("revoke all on database {quoted} from public")).await?;
        admin.close().await?;
        if exists {
            let mut inside = self.superuser(name).await?;
            run(&mut inside, ADOPT.to_owned()).await?;
            inside.close().await?;
        }
        Ok(())
    }

    /// Creates a role that may log in and has nothing else, unless there is one of this name.
    pub async fn create_role(&self, name: &str) -> Result<()> {
        let mut admin = self.superuser("postgres").await?;
        create_role(&mut admin, name, "login").await?;
        admin.close().await?;
        Ok(())
    }

    /// Lets a role read the log of the whole cluster, which the relay that follows the log needs, or not any more.
    pub async fn let_replicate(&self, name: &str, may: bool) -> Result<()> {
        let mut admin = self.superuser("postgres").await?;
        let attribute = if may { "replication" } else { "noreplication" };
        run(&mut admin, format!("alter role {} {attribute}", quoted(name))).await?;
        admin.close().await?;
        Ok(())
    }

    /// Lets nobody but superusers into the databases that a cluster is born with.
    pub async fn lock_common_databases(&self) -> Result<()> {
        let mut admin = self.superuser("postgres").await?;
        run(
            &mut admin,
            "revoke all on database postgres, template1 from public".to_owned(),
        )
        .await?;
        admin.close().await?;
        Ok(())
    }

    async fn superuser(&self, database: &str) -> Result<PgConnection> {
        Ok(PgConnectOptions::from_str(&self.socket_url(database))?
            .connect()
            .await?)
    }
}

/// What an owner may that is its own service: log in, and replicate, which the relay that reads the log needs.
pub(crate) const OWNER: &str = "login replication";

/// Creates a role with these attributes, unless there is one of this name.
pub(crate) async fn create_role(admin: &mut PgConnection, name: &str, attributes: &str) -> Result<()> {
    let create = format!("create role {} {attributes}", quoted(name));
    match run(admin, create).await {
        Err(error) if !is_there_already(&error) => Err(error).with_context(|| format!("cannot create the role {name}")),
        _ => Ok(()),
    }
}

/// Two at once are told so by the index.
fn is_there_already(error: &anyhow::Error) -> bool {
    let database = error
        .downcast_ref::<sqlx::Error>()
        .and_then(sqlx::Error::as_database_error);
    database
        .and_then(|error| error.code())
        .is_some_and(|code| ["42710", "23505"].contains(&&*code))
}

pub(crate) async fn run(admin: &mut PgConnection, statement: String) -> Result<()> {
    sqlx::query(AssertSqlSafe(statement)).execute(admin).await?;
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
