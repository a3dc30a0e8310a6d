//! A projection is built once more from the streams, and takes the place of the live one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e_tests::{Service, TELLERS, Wish, World, run};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

/// Asks for a replay of analytics.
async fn ask(world: &World, plan: &Value) -> Value {
    let url = format!("{}/admin/replay", world.shop.admin_url(Service::Analytics));
    let answer = world.http.post(url).json(plan).send().await;
    let answer = answer.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    answer.json().await.unwrap_or_default()
}

async fn look(world: &World) -> anyhow::Result<Value> {
    let url = format!("{}/admin/replay", world.shop.admin_url(Service::Analytics));
    Ok(world.http.get(url).send().await?.json().await?)
}

/// Waits for the end of the replay that was asked for.
async fn replayed(world: &World, plan: Value) -> Value {
    ask(world, &plan).await;
    let ended = world.until("the replay ends", || async {
        let report = look(world).await?;
        Ok(["done", "failed"]
            .contains(&report["phase"].as_str().unwrap_or_default())
            .then_some(report))
    });
    let report = ended.await.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(report["phase"], "done", "{report:#}");
    report
}

fn differing(report: &Value) -> u64 {
    let tables = report["tables"].as_object().into_iter().flatten();
    tables.map(|(_, table)| table["differing"].as_u64().unwrap_or(0)).sum()
}

fn names(report: &Value, table: &str, key: &str) -> bool {
    let found = report["tables"][table]["differences"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    found.iter().any(|difference| difference["key"] == key)
}

async fn analytics(world: &World) -> PgPool {
    world
        .pool(Service::Analytics)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// Makes live tables say what never happened, each in a way of its own.
async fn falsify(pool: &PgPool, order: Uuid) -> anyhow::Result<()> {
    sqlx::query("update orders set total = total + 1 where order_id = $1")
        .bind(order)
        .execute(pool)
        .await?;
    for lie in [
        "update counters set count = count + 5 where step = 'placed'",
        "insert into sales values ('product', 'NEVER-SOLD', 'EUR', 1, 1, 1)",
        "delete from products where sku = 'TIN-100'",
    ] {
        ensure!(sqlx::query(lie).execute(pool).await?.rows_affected() == 1, "{lie}");
    }
    Ok(())
}

/// Which table is behind the name.
async fn identity(pool: &PgPool) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar("select 'public.orders'::regclass::oid::bigint")
        .fetch_one(pool)
        .await?)
}

async fn orders(world: &World, number: usize) -> Vec<Uuid> {
    let wishes = [
        Wish::of("TEA-ASSAM"),
        Wish::of("TEA-SENCHA").to("XX"),
        Wish::of("KETTLE").paid_by("pm_card_chargeDeclined"),
    ];
    let placed = (0..number).map(|at| world.place(&wishes[at % wishes.len()]));
    let placed = join_all(placed.collect::<Vec<_>>()).await;
    join_all(placed.iter().map(|order| world.ended(*order))).await;
    placed
}

/// Somebody orders and somebody looks from before it begins until it is over.
async fn replayed_while_orders_arrive(world: &World) -> Value {
    let (done, asked) = (AtomicBool::new(false), std::sync::atomic::AtomicU32::new(0));
    let buying = async {
        while !done.load(Ordering::Relaxed) {
            world.place(&Wish::of("TEA-ASSAM")).await;
            asked.fetch_add(1, Ordering::Relaxed);
        }
    };
    let looking = async {
        while !done.load(Ordering::Relaxed) {
            let summary = world.get(Service::Analytics, "/v1/summary").await.unwrap_or_default();
            assert!(
                summary["orders_placed"].as_i64().is_some_and(|placed| placed >= 12),
                "{summary}"
            );
        }
    };
    let replaying = async {
        // Orders arrive already when it begins, and go on until it is over.
        let arriving = world.until("orders arrive", || async {
            Ok((asked.load(Ordering::Relaxed) > 2).then_some(()))
        });
        arriving.await.unwrap_or_else(|error| panic!("{error:#}"));
        let report = replayed(world, json!({})).await;
        done.store(true, Ordering::Relaxed);
        report
    };
    let (report, ..) = tokio::join!(replaying, buying, looking);
    report
}

#[test]
fn a_projection_is_replaced_by_its_replay_while_orders_arrive() {
    run(async {
        let world = World::open(&[]).await;
        let placed = orders(&world, 12).await;
        world.drained().await.unwrap_or_else(|error| panic!("{error:#}"));
        let pool = analytics(&world).await;
        falsify(&pool, placed[0])
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let (process, before) = (
            world.shop.pid(Service::Analytics),
            identity(&pool).await.unwrap_or_default(),
        );

        let report = replayed_while_orders_arrive(&world).await;
        assert_eq!(report["exchanged"], true, "{report:#}");
        for (table, key) in [
            ("orders", placed[0].to_string().as_str()),
            ("counters", "placed "),
            ("sales", "product NEVER-SOLD EUR"),
            ("products", "TIN-100"),
        ] {
            assert!(names(&report, table, key), "{table} {key}: {report:#}");
        }
        assert_eq!(differing(&report), 4, "what was planted, and nothing else: {report:#}");

        world.audit().await;
        assert_ne!(
            identity(&pool).await.unwrap_or_default(),
            before,
            "other tables are behind the names"
        );
        assert_eq!(
            world.shop.pid(Service::Analytics),
            process,
            "and the service went on with them"
        );
        let again = replayed(&world, json!({ "dry_run": true })).await;
        assert_eq!(
            (differing(&again), &again["exchanged"]),
            (0, &json!(false)),
            "{again:#}"
        );
        let log = world.shop.log(Service::Analytics);
        assert!(!log.contains("cached plan"), "{log}");
    });
}

#[test]
fn a_replay_that_is_killed_leaves_the_live_tables_as_they_were() {
    run(async {
        let world = World::open(&[]).await;
        let placed = orders(&world, 6).await;
        world.drained().await.unwrap_or_else(|error| panic!("{error:#}"));
        let pool = analytics(&world).await;
        falsify(&pool, placed[0])
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let before = identity(&pool).await.unwrap_or_default();

        // A reader holds the last table it needs, so that it is at the point of exchanging when it dies.
        let mut reader = pool.begin().await.unwrap_or_else(|error| panic!("{error}"));
        let held = sqlx::query("select count(*) from sales").execute(&mut *reader).await;
        held.unwrap_or_else(|error| panic!("{error}"));
        for phase in ["", "exchanging"] {
            ask(&world, &json!({})).await;
            let there = world.until("the replay has come so far", || async {
                let report = look(&world).await?;
                ensure!(report["phase"] != "failed", "{report:#}");
                Ok((phase.is_empty() || report["phase"] == phase).then_some(()))
            });
            there.await.unwrap_or_else(|error| panic!("{error:#}"));
            let summary = world.get(Service::Analytics, "/v1/latency").await.unwrap_or_default();
            assert!(summary["count"].is_i64(), "readers are served: {summary}");
            kill_and_start(&world).await.unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(
                identity(&pool).await.unwrap_or_default(),
                before,
                "killed while {phase:?}"
            );
            let report = look(&world).await.unwrap_or_default();
            assert_eq!(report["phase"], "idle", "{report:#}");
        }
        drop(reader);

        world.place(&Wish::of("TEA-ASSAM")).await;
        world.drained().await.unwrap_or_else(|error| panic!("{error:#}"));
        let report = replayed(&world, json!({})).await;
        assert_eq!(
            (differing(&report), &report["exchanged"]),
            (4, &json!(true)),
            "{report:#}"
        );
        world.audit().await;
    });
}

async fn kill_and_start(world: &World) -> anyhow::Result<()> {
    world.shop.kill(Service::Analytics).await?;
    world.shop.start_service(Service::Analytics).await
}

/// As if the confirmation had never been heard.
async fn forget_confirmation(pool: &PgPool, order: Uuid) -> anyhow::Result<()> {
    let row = "update orders set confirmed_at = null where order_id = $1 and confirmed_at is not null";
    let forgotten = sqlx::query(row).bind(order).execute(pool).await?;
    ensure!(forgotten.rows_affected() == 1, "{order} was not confirmed");
    let sum = "update counters set count = count - 1 where step = 'confirmed'";
    sqlx::query(sum).execute(pool).await?;
    Ok(())
}

#[test]
fn orders_are_recomputed_alone_and_in_a_period_without_exchanging_anything() {
    run(async {
        let world = World::open(&[]).await;
        let placed = orders(&world, 6).await;
        world.drained().await.unwrap_or_else(|error| panic!("{error:#}"));
        let pool = analytics(&world).await;
        let before = identity(&pool).await.unwrap_or_default();
        let forget = async |order| forget_confirmation(&pool, order).await;
        forget(placed[0]).await.unwrap_or_else(|error| panic!("{error:#}"));
        let compared = replayed(&world, json!({ "order": placed[0], "dry_run": true })).await;
        assert_eq!(
            (differing(&compared), &compared["mended"]),
            (1, &json!(0)),
            "{compared:#}"
        );
        let mended = replayed(&world, json!({ "order": placed[0] })).await;
        assert!(names(&mended, "orders", &placed[0].to_string()), "{mended:#}");
        assert_eq!(mended["mended"], 1, "{mended:#}");

        forget(placed[3]).await.unwrap_or_else(|error| panic!("{error:#}"));
        let day = json!({ "since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z" });
        let compared = replayed(&world, day).await;
        assert!(names(&compared, "orders", &placed[3].to_string()), "{compared:#}");
        assert_eq!(
            (differing(&compared), &compared["exchanged"]),
            (1, &json!(false)),
            "{compared:#}"
        );
        assert!(
            compared["tables"]["sales"]["rows"]
                .as_array()
                .is_some_and(|rows| !rows.is_empty()),
            "{compared:#}"
        );
        let long_ago = replayed(&world, json!({ "until": "2020-01-01T00:00:00Z" })).await;
        assert_eq!(
            (differing(&long_ago), &long_ago["replayed"]),
            (0, &json!(0)),
            "{long_ago:#}"
        );
        let mended = replayed(&world, json!({ "since": "2020-01-01T00:00:00Z", "mend": true })).await;
        assert_eq!(mended["mended"], 1, "{mended:#}");

        let sound = replayed(&world, json!({ "dry_run": true })).await;
        assert_eq!(differing(&sound), 0, "{sound:#}");
        assert_eq!(
            identity(&pool).await.unwrap_or_default(),
            before,
            "nothing was exchanged"
        );
        world.audit().await;
    });
}

#[test]
fn who_acts_on_what_it_hears_is_not_replayed() {
    run(async {
        let world = World::shared().await;
        for service in TELLERS {
            let refused = refusal(world, service)
                .await
                .unwrap_or_else(|error| panic!("{service}: {error:#}"));
            let detail = refused["detail"].as_str().unwrap_or_default();
            assert!(detail.contains("again"), "{service}: {refused}");
        }
    });
}

async fn refusal(world: &World, service: Service) -> anyhow::Result<Value> {
    let url = format!("{}/admin/replay", world.shop.admin_url(service));
    let answer = world.http.post(&url).timeout(Duration::from_secs(10)).send().await?;
    ensure!(answer.status() == StatusCode::CONFLICT, "{}", answer.status());
    let kind = answer
        .headers()
        .get("content-type")
        .context("no content type")?
        .to_str()?
        .to_owned();
    ensure!(kind.starts_with("application/problem+json"), "{kind}");
    Ok(answer.json().await?)
}
