//! What PostgreSQL refuses: other databases, changed tables, and a changed past.

use anyhow::{Context as _, Result, ensure};
use e2e_tests::{Service, Wish, World, run};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::secured;

/// PostgreSQL's word for a right that is missing.
const REFUSED: &str = "42501";

async fn own(world: &World, service: Service) -> Result<PgConnection> {
    Ok(PgConnection::connect(&world.shop.own_database_url(service)).await?)
}

async fn is_refused(session: &mut PgConnection, statement: &str) -> Result<()> {
    let refused = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(session)
        .await;
    let error = refused.err().with_context(|| format!("nobody refuses: {statement}"))?;
    let code = error
        .as_database_error()
        .and_then(|error| error.code().map(|code| code.into_owned()));
    ensure!(code.as_deref() == Some(REFUSED), "{statement}: {error}");
    Ok(())
}

async fn is_done(session: &mut PgConnection, statement: &str) -> Result<()> {
    let mut tx = session.begin().await?;
    let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(&mut *tx)
        .await;
    done.with_context(|| statement.to_owned())?;
    Ok(tx.rollback().await?)
}

/// What was paid and booked, told and heard is added to; nothing of it is changed, and none of the first two is forgotten.
#[test]
fn the_past_is_added_to_and_never_changed() -> Result<()> {
    run(async {
        let world = secured().await;
        let id = world.place(&Wish::of("TEA-ASSAM")).await;
        world.ended(id).await;
        let mut payment = own(world, Service::Payment).await?;
        for table in ["payment_events", "ledger"] {
            is_refused(&mut payment, &format!("delete from {table}")).await?;
            is_refused(&mut payment, &format!("truncate {table}")).await?;
        }
        is_refused(&mut payment, "update ledger set debit = debit + 1 where debit > 0").await?;
        is_refused(&mut payment, "update payment_events set data = '{}'").await?;
        is_refused(&mut payment, "alter table ledger disable trigger all").await?;
        is_done(
            &mut payment,
            "insert into ledger (transaction_id, account, debit, credit, order_id)
             select gen_random_uuid(), 'sales', 0, 1, order_id from payment_events limit 1",
        )
        .await?;
        is_done(&mut payment, "update payments set attempts = attempts").await?;
        for service in Service::ALL {
            let mut session = own(world, service).await?;
            for change in [
                "update outbox set payload = '{}'",
                "update outbox_archive set stream_sequence = 0",
                "update inbox set handled_at = now()",
                "update dead_letter_actions set who = 'nobody'",
                "truncate inbox",
            ] {
                is_refused(&mut session, change).await?;
            }
            is_done(&mut session, "delete from inbox").await?;
            is_done(&mut session, "delete from outbox_archive").await?;
        }
        Ok(())
    })
}

#[test]
fn a_service_changes_no_table_and_becomes_nobody_else() -> Result<()> {
    run(async {
        let world = secured().await;
        for service in Service::ALL {
            let (mut session, owner) = (own(world, service).await?, service.database());
            for statement in [
                "create table mine ()",
                "create temp table mine ()",
                "create schema mine",
                "alter table inbox add column mine int",
                "drop table inbox",
                "create index on inbox (handled_at)",
                "create function mine() returns int language sql as 'select 1'",
                "create publication mine",
                "drop publication outbox_relay",
                "delete from _sqlx_migrations",
                "create role mine",
                "copy inbox to program 'true'",
                &format!("set role {owner}"),
                &format!("alter default privileges for role {owner} grant all on tables to public"),
            ] {
                is_refused(&mut session, statement).await?;
            }
            is_done(&mut session, "select version from _sqlx_migrations").await?;
            let mut owning = PgConnection::connect(&world.shop.owner_database_url(service)).await?;
            is_done(
                &mut owning,
                "create table mine (); alter table inbox add column mine int",
            )
            .await?;
        }
        Ok(())
    })
}

#[test]
fn a_service_enters_no_database_but_its_own() -> Result<()> {
    run(async {
        let world = secured().await;
        for service in Service::ALL {
            own(world, service).await?.close().await?;
            let others = Service::ALL.into_iter().filter(|other| *other != service);
            let others = others
                .map(Service::database)
                .chain(["postgres", "template1"].map(str::to_owned));
            for role in [service.application(), service.database()] {
                for other in others.clone() {
                    let entered = PgConnection::connect(&world.shop.postgres().socket_url_as(&role, &other)).await;
                    let error = entered.err().with_context(|| format!("{role} enters {other}"))?;
                    let code = error
                        .as_database_error()
                        .and_then(|error| error.code().map(|code| code.into_owned()));
                    ensure!(code.as_deref() == Some(REFUSED), "{role} and {other}: {error}");
                }
            }
        }
        Ok(())
    })
}

/// With `MIGRATE=false` a service waits for its schema, does not mind a newer one, and leaves both as they are.
#[test]
fn a_service_waits_for_its_tables_and_does_not_mind_what_is_newer() -> Result<()> {
    run(async {
        let world = World::open(&[]).await;
        world.shop.stop_service(Service::Warehouse).await?;
        let mut superuser = PgConnection::connect(&world.shop.database_url(Service::Warehouse)).await?;
        let hide = "create table hidden as select * from _sqlx_migrations where version = 1002;
                    delete from _sqlx_migrations where version = 1002;
                    insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                    values (9999, 'of a later release', true, '', 0)";
        sqlx::raw_sql(hide).execute(&mut superuser).await?;
        let appearing = async {
            let waits = world.until("it waits for a migration", || async {
                let log = world.shop.log(Service::Warehouse);
                Ok((log.contains("waiting for the tables") && log.contains("migration 1002")).then_some(()))
            });
            waits.await?;
            let show = "insert into _sqlx_migrations select * from hidden; drop table hidden";
            sqlx::raw_sql(show).execute(&mut superuser).await?;
            anyhow::Ok(())
        };
        tokio::try_join!(world.shop.start_service(Service::Warehouse), appearing)?;
        let id = world.place(&Wish::of("TEA-ASSAM")).await;
        ensure!(world.ended(id).await["state"] == "COMPLETED");
        world.audit().await;
        Ok(())
    })
}
