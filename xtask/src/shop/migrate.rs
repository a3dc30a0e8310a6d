//! The tables of a service, brought up to date by the role that owns them, and what its application may do with them.

use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};

use super::Service;

/// How long the server may take to appear, for a container that starts beside it, and a lock to be free.
const WITHIN: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(500);

/// What the owner may do with the rows of its tables, `<owner>_app` may do as well, and nothing else: what the owner has
/// given up is given to nobody. The list of migrations is for reading, so that a service can wait for its schema. Tables that come
/// later are usable from their first moment on, and narrowed by the next run.
const GRANTS: &str = r#"do $$
declare
    app text := quote_ident(current_user || '_app');
    statement text;
begin
    perform pg_advisory_xact_lock(hashtext('grants'));
    if to_regrole(app) is null then
        raise exception 'there is no role % to grant anything to', app;
    end if;
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to %s', current_database(), app);
    revoke all on schema public from public;
    execute format('grant usage on schema public to %s', app);
    for statement in
        select format('revoke all on %s from %s', oid::regclass, app)
        from pg_class
        where relnamespace = 'public'::regnamespace and relowner = current_user::regrole and relkind in ('r', 'p', 'v')
    loop
        execute statement;
    end loop;
    for statement in
        select format('grant %s on %s to %s', string_agg(privilege_type, ', '), c.oid::regclass, app)
        from pg_class c, aclexplode(coalesce(relacl, acldefault('r', relowner)))
        where relnamespace = 'public'::regnamespace and relowner = current_user::regrole and relkind in ('r', 'p', 'v')
              and grantee = relowner
              and privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
              and (privilege_type = 'SELECT' or relkind <> 'v' and relname <> '_sqlx_migrations')
        group by c.oid
    loop
        execute statement;
    end loop;
    execute format('alter default privileges in schema public grant select, insert, update, delete on tables to %s', app);
end $$"#;

/// Applies the migrations as the owner whom the address names, and grants; waits for a server that is not there yet, and for
/// whoever works with the tables just now.
pub async fn migrate(service: Service, owner_url: &str) -> Result<()> {
    let options = PgConnectOptions::from_str(owner_url).context("no address of a database")?;
    let options = options
        .application_name("shop migrate")
        .options([("lock_timeout", "3s")]);
    let deadline = Instant::now() + WITHIN;
    loop {
        match attempt(service, &options).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline || !will_pass(&error) => {
                return Err(error).with_context(|| format!("the database of {service}"));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn attempt(service: Service, options: &PgConnectOptions) -> Result<()> {
    let mut owner = options.connect().await?;
    service.migrations().run(&mut owner).await?;
    // One statement: all or nothing.
    owner.execute(GRANTS).await.context("nothing can be granted")?;
    Ok(owner.close().await?)
}

/// Whether the server is not there, not yet ready, or busy with the same tables.
fn will_pass(error: &anyhow::Error) -> bool {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>());
    match cause {
        Some(sqlx::Error::Io(_)) => true,
        Some(sqlx::Error::Database(refusal)) => refusal.code().is_some_and(|code| {
            ["57P", "55P03", "40P01"]
                .iter()
                .any(|passing| code.starts_with(passing))
        }),
        _ => false,
    }
}
