//! A private cluster: its databases, its crashes, its neighbours.
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::PermissionsExt;

use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};
use testbed::{Durability, Place, Postgres};

static MIGRATIONS: Migrator = sqlx::migrate!("tests/migrations");

#[tokio::test]
async fn every_test_gets_a_migrated_database_of_its_own() {
    let spawned = tokio::spawn(testbed::database(&MIGRATIONS));
    let (one, other) = (testbed::database(&MIGRATIONS).await, spawned.await.unwrap());
    sqlx::query("insert into notes (text) values ('mine')")
        .execute(&one)
        .await
        .unwrap();

    let seen: i64 = sqlx::query_scalar("select count(*) from notes")
        .fetch_one(&other)
        .await
        .unwrap();
    assert_eq!(seen, 0);
}

#[tokio::test]
async fn the_shared_cluster_is_not_bound_to_the_runtime_that_started_it() {
    let url = testbed::database_url(&MIGRATIONS).await;
    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            testbed::database(&MIGRATIONS).await;
            PgConnection::connect(&url).await.unwrap();
            testbed::postgres().await.port()
        })
    });
    assert_eq!(elsewhere.join().unwrap(), testbed::postgres().await.port());
}

#[tokio::test]
async fn committed_rows_survive_a_crash_of_the_whole_cluster() {
    let cluster = Postgres::start(Place::temporary().with(Durability::Real))
        .await
        .unwrap();
    cluster.create_database("shop").await.unwrap();
    cluster.create_database("shop").await.unwrap();
    let mut db = PgConnection::connect(&cluster.url("shop")).await.unwrap();
    sqlx::query("create table kept as select 42 as answer")
        .execute(&mut db)
        .await
        .unwrap();

    cluster.kill().await.unwrap();
    assert!(db.ping().await.is_err());
    assert!(PgConnection::connect(&cluster.url("shop")).await.is_err());
    cluster.restart().await.unwrap();

    let mut db = PgConnection::connect(&cluster.url("shop")).await.unwrap();
    let answer: i32 = sqlx::query_scalar("select answer from kept")
        .fetch_one(&mut db)
        .await
        .unwrap();
    assert_eq!(answer, 42);
    let fsync: String = sqlx::query_scalar("show fsync").fetch_one(&mut db).await.unwrap();
    assert_eq!(fsync, "on");
}

#[tokio::test]
async fn both_addresses_lead_to_the_same_cluster() {
    let cluster = testbed::postgres().await;
    let over = async |url: String| -> (String, bool) {
        let mut db = PgConnection::connect(&url).await.unwrap();
        sqlx::query_as("select current_setting('data_directory'), inet_server_addr() is null")
            .fetch_one(&mut db)
            .await
            .unwrap()
    };
    let (tcp, socket) = (
        over(cluster.url("postgres")).await,
        over(cluster.socket_url("postgres")).await,
    );
    assert_eq!(tcp.0, socket.0);
    assert_eq!((tcp.1, socket.1), (false, true));
}

#[tokio::test]
async fn clusters_started_at_once_do_not_collide() {
    let start = || Postgres::start(Place::temporary());
    let (a, b, c) = tokio::try_join!(start(), start(), start()).unwrap();
    for cluster in [&a, &b, &c] {
        PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    }
    let folder = a.folder().to_owned();
    assert!(folder.exists());
    drop(a);
    assert!(!folder.exists());
    PgConnection::connect(&b.url("postgres")).await.unwrap();
}

#[tokio::test]
async fn a_kept_folder_is_found_again_and_belongs_to_one_owner_at_a_time() {
    let scratch = std::env::temp_dir().join(format!("tidings-kept-{}", std::process::id()));
    let port = testbed::free_port().unwrap();
    let place = Place::kept(scratch.join("postgres")).on_port(port);
    let first = Postgres::start(place.clone()).await.unwrap();
    first.create_database("shop").await.unwrap();
    let second = Postgres::start(place.clone()).await.unwrap_err();
    assert!(second.to_string().contains("another process"), "{second:#}");

    drop(first);
    let again = Postgres::start(place).await.unwrap();
    assert_eq!(again.port(), port);
    PgConnection::connect(&again.url("shop")).await.unwrap();
    drop(again);
    std::fs::remove_dir_all(scratch).unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_in_the_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Postgres::start(Place::temporary().on_port(port)).await.unwrap_err();
    assert!(error.to_string().contains("Address already in use"), "{error:#}");
}

#[tokio::test]
async fn a_home_that_lets_nobody_in_is_no_obstacle() {
    let home = std::env::temp_dir().join(format!("tidings-home-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    std::fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).unwrap();
    let place = || Place::kept(home.join("postgres"));
    let cluster = Postgres::start(place()).await.unwrap();
    cluster.create_database("shop").await.unwrap();
    drop(cluster);

    let again = Postgres::start(place()).await.unwrap();
    PgConnection::connect(&again.url("shop")).await.unwrap();
    let folder = again.folder().to_owned();
    drop(again);
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::remove_dir_all(home).unwrap();
}

#[tokio::test]
async fn a_cluster_that_died_by_itself_can_be_started_again() {
    let cluster = Postgres::start(Place::temporary()).await.unwrap();
    let pid = std::fs::read_to_string(cluster.folder().join("data/postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap();
    assert!(
        std::process::Command::new("kill")
            .args(["-QUIT", pid])
            .status()
            .unwrap()
            .success()
    );

    cluster.restart().await.unwrap();
    PgConnection::connect(&cluster.url("postgres")).await.unwrap();
}

#[tokio::test]
async fn a_database_belongs_to_a_role_that_has_nothing_else() {
    let cluster = testbed::postgres().await;
    for name in ["shop_one", "shop_other"] {
        cluster.create_database(name).await.unwrap();
    }
    let mut own = PgConnection::connect(&cluster.socket_url_as("shop_one", "shop_one"))
        .await
        .unwrap();
    sqlx::query("create table things (id int)")
        .execute(&mut own)
        .await
        .unwrap();
    let elsewhere = PgConnection::connect(&cluster.socket_url_as("shop_one", "shop_other")).await;
    let refused = elsewhere.unwrap_err().into_database_error().unwrap();
    assert_eq!(refused.code().as_deref(), Some("42501"), "{refused}");
    let powers = "select concat_ws(' ', rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls)
                  from pg_roles where rolname = current_user";
    let powers: String = sqlx::query_scalar(powers).fetch_one(&mut own).await.unwrap();
    assert_eq!(
        powers, "f f f t f",
        "it may replicate, which the relay that reads the log needs"
    );
}

#[tokio::test]
async fn what_a_superuser_has_made_before_there_was_an_owner_is_the_owners() {
    let cluster = testbed::postgres().await;
    let mut superuser = PgConnection::connect(&cluster.socket_url("postgres")).await.unwrap();
    sqlx::query("create database shop_old")
        .execute(&mut superuser)
        .await
        .unwrap();
    let mut inside = PgConnection::connect(&cluster.socket_url("shop_old")).await.unwrap();
    for made in [
        "create table things (id bigint generated always as identity, name text)",
        "create view names as select name from things",
        "create function answer() returns int language sql as 'select 42'",
    ] {
        sqlx::query(made).execute(&mut inside).await.unwrap();
    }
    cluster.create_database("shop_old").await.unwrap();
    let mut owner = PgConnection::connect(&cluster.socket_url_as("shop_old", "shop_old"))
        .await
        .unwrap();
    for change in [
        "alter table things add column price bigint",
        "insert into things (name) values ('tea')",
        "create or replace view names as select name from things where price is null",
        "create or replace function answer() returns int language sql as 'select 43'",
    ] {
        sqlx::query(change).execute(&mut owner).await.unwrap();
    }
}
