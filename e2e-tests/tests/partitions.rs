//! Links between a service and its servers that carry nothing, and databases that are slow or full: whoever can go on
//! does, and nobody needs to be restarted afterwards.

use std::collections::BTreeMap;

use anyhow::ensure;
use e2e_tests::{Service, Wish, World, run};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;
use testbed::{Proxy, When};
use uuid::Uuid;

fn database(world: &World, service: Service) -> &Proxy {
    let link = world.shop.database_link(service);
    link.unwrap_or_else(|error| panic!("{error:#}"))
}

fn broker(world: &World, service: Service) -> &Proxy {
    let link = world.shop.broker_link(service);
    link.unwrap_or_else(|error| panic!("{error:#}"))
}

/// What the service says of itself to whoever sends it requests.
async fn readiness(world: &World, service: Service) -> anyhow::Result<(StatusCode, Value)> {
    let url = format!("{}/readyz", world.shop.admin_url(service));
    let answer = world.http.get(url).send().await?;
    Ok((answer.status(), answer.json().await?))
}

async fn says(world: &World, service: Service, status: &str) {
    let what = format!("{service} says that it is {status}");
    let said = world.until(&what, || async {
        let (_, body) = readiness(world, service).await?;
        ensure!(body["status"] == status, "{body}");
        Ok(Some(()))
    });
    said.await.unwrap_or_else(|error| panic!("{error:#}"));
}

async fn outbox(world: &World, service: Service) -> Value {
    let url = format!("{}/admin/outbox", world.shop.admin_url(service));
    let answer = world
        .http
        .get(url)
        .send()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    answer.json().await.unwrap_or_default()
}

fn processes(world: &World) -> BTreeMap<Service, Option<u32>> {
    Service::ALL.map(|service| (service, world.shop.pid(service))).into()
}

/// All of them complete, the audit finds nothing, and the processes are those of the beginning.
async fn all_end_well(world: &World, placed: &[Uuid], began: &BTreeMap<Service, Option<u32>>) {
    for id in placed {
        assert_eq!(world.ended(*id).await["state"], "COMPLETED", "order {id}");
    }
    world.audit().await;
    assert_eq!(&processes(world), began, "nobody was restarted");
}

async fn place(world: &World, orders: usize) -> Vec<Uuid> {
    let mut placed = Vec::new();
    for _ in 0..orders {
        placed.push(world.place(&Wish::of("TEA-ASSAM")).await);
    }
    placed
}

/// Row 16: while nothing reaches the broker, orders are taken, wait in the outbox and show; healed, they are finished.
#[test]
fn orders_are_taken_while_the_broker_is_beyond_reach_and_finished_when_it_is_back() {
    run(async {
        let world = World::open_linked(&[]).await;
        let began = processes(&world);
        let link = broker(&world, Service::Order);
        link.stall();
        let placed = place(&world, 20).await;
        says(&world, Service::Order, "degraded").await;
        let (code, _) = readiness(&world, Service::Order).await.unwrap_or_default();
        assert_eq!(code, StatusCode::OK, "it still takes requests");
        let waiting = outbox(&world, Service::Order).await;
        assert_eq!(waiting["depth"], 20, "{waiting}");
        link.heal();
        all_end_well(&world, &placed, &began).await;
        says(&world, Service::Order, "ready").await;
    });
}

/// Row 17: a service that is cut off from its database says so, acknowledges nothing and buries nothing; healed, it
/// goes on where it was.
#[test]
fn a_service_beyond_reach_of_its_database_goes_on_where_it_was() {
    run(async {
        let world = World::open_linked(&[]).await;
        let began = processes(&world);
        let link = database(&world, Service::Inventory);
        link.stall();
        let placed = place(&world, 10).await;
        says(&world, Service::Inventory, "unavailable").await;
        for id in &placed {
            let order = world.order(*id).await.unwrap_or_default();
            assert_eq!(
                (&order["state"], &order["stock_check"]),
                (&"PENDING".into(), &"skipped".into())
            );
        }
        link.heal();
        all_end_well(&world, &placed, &began).await;
    });
}

/// Row 17: database connections of every service that died without a word are given up and replaced.
#[test]
fn database_connections_that_died_in_silence_are_replaced_by_every_service() {
    run(async {
        let world = World::open_linked(&[]).await;
        let began = processes(&world);
        let before = place(&world, 5).await;
        for service in Service::ALL {
            database(&world, service).strand();
        }
        let keyed = Wish::of("TEA-ASSAM").key("after the silence");
        let after = world.place_stubbornly(&keyed).await;
        let after = after.unwrap_or_else(|error| panic!("{error:#}"));
        all_end_well(&world, &[before, vec![after]].concat(), &began).await;
    });
}

/// Row 16: a broker connection that died without a word is given up and replaced, and what the broker had sent on it
/// is sent again.
#[test]
fn a_broker_connection_that_died_in_silence_is_replaced() {
    run(async {
        let world = World::open_linked(&[]).await;
        let began = processes(&world);
        broker(&world, Service::Payment).strand();
        let placed = place(&world, 5).await;
        all_end_well(&world, &placed, &began).await;
    });
}

/// Row 14: the commit of an order is cut off before or after it took effect; the client learns that it must ask again,
/// and asking again under the same key gives exactly one order.
#[test]
fn an_order_whose_commit_is_cut_off_is_placed_once_by_asking_again() {
    run(async {
        let world = World::open_linked(&[]).await;
        let began = processes(&world);
        let mut placed = Vec::new();
        for when in [When::Before, When::After] {
            let wish = with_its_commit_cut_off(&world, when, &mut placed).await;
            let again = world
                .place_stubbornly(&wish)
                .await
                .unwrap_or_else(|error| panic!("{error:#}"));
            let replayed = world
                .place_stubbornly(&wish)
                .await
                .unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(again, replayed, "{when:?}");
            placed.push(again);
        }
        let order = world
            .pool(Service::Order)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let known = sqlx::query_scalar::<_, i64>("select count(*) from orders")
            .fetch_one(&order)
            .await;
        assert_eq!(known.unwrap_or_default(), placed.len() as i64, "one order a key");
        all_end_well(&world, &placed, &began).await;
    });
}

/// An order that was answered 503 because its commit was cut off. When another's commit came first, as one of the relay
/// may, the order is placed, and the next takes its turn.
async fn with_its_commit_cut_off(world: &World, when: When, placed: &mut Vec<Uuid>) -> Wish {
    for turn in 0..20 {
        let wish = Wish::of("TEA-ASSAM").key(&format!("{when:?} {turn}"));
        database(world, Service::Order).cut_at(*b"commit\0", when);
        let (status, answer) = world.order_once(&wish).await.unwrap_or_default();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(answer["status"], 503, "{when:?}: {answer}");
            return wish;
        }
        assert_eq!(status, StatusCode::CREATED, "{when:?}: {answer}");
        placed.push(serde_json::from_value(answer["id"].clone()).unwrap_or_default());
    }
    panic!("no order's commit was cut off");
}

/// Makes a database do something whenever an event is written to its outbox.
async fn ail(world: &World, service: Service, what: &str) {
    let pool = world.pool(service).await.unwrap_or_else(|error| panic!("{error:#}"));
    let function = format!(
        "create or replace function ail() returns trigger language plpgsql as $$ begin {what}; return new; end $$"
    );
    let trigger = "create trigger ail before insert on outbox for each statement execute function ail()";
    for statement in [function.as_str(), trigger] {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()))
            .execute(&pool)
            .await;
        done.unwrap_or_else(|error| panic!("{error}"));
    }
}

async fn recover(world: &World, service: Service) {
    let pool = world.pool(service).await.unwrap_or_else(|error| panic!("{error:#}"));
    let dropped = sqlx::query("drop trigger ail on outbox").execute(&pool).await;
    dropped.unwrap_or_else(|error| panic!("{error}"));
}

/// Several customers at once; each is answered, either with an order or with a problem that says when to come again.
async fn answered(world: &World, wishes: &[Wish]) -> Vec<StatusCode> {
    let ask = async |wish: &Wish| -> anyhow::Result<StatusCode> {
        let url = format!("{}/v1/orders", world.shop.url(Service::Order));
        let request = world.http.post(url).json(&wish.body());
        let answer = request
            .header("idempotency-key", wish.key.clone().unwrap_or_default())
            .send()
            .await?;
        let status = answer.status();
        if status != StatusCode::CREATED {
            let header = |name: &str| {
                answer
                    .headers()
                    .get(name)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned)
            };
            ensure!(status == StatusCode::SERVICE_UNAVAILABLE, "{status}");
            ensure!(
                header("content-type").as_deref() == Some("application/problem+json"),
                "no problem document"
            );
            ensure!(header("retry-after").is_some(), "it does not say when to come again");
        }
        Ok(status)
    };
    let answers = join_all(wishes.iter().map(ask)).await;
    answers
        .into_iter()
        .map(|answer| answer.unwrap_or_else(|error| panic!("no good answer: {error:#}")))
        .collect()
}

fn wishes(name: &str) -> Vec<Wish> {
    (0..5)
        .map(|number| Wish::of("TEA-ASSAM").key(&format!("{name} {number}")))
        .collect()
}

async fn placed_again(world: &World, wishes: &[Wish]) -> Vec<Uuid> {
    let mut placed = Vec::new();
    for wish in wishes {
        placed.push(
            world
                .place_stubbornly(wish)
                .await
                .unwrap_or_else(|error| panic!("{error:#}")),
        );
    }
    placed
}

/// Row 15: a slow database is waited for, a hopelessly slow one is a 503 that says when to come again, and nobody
/// waits longer than a request may take.
#[test]
fn a_slow_database_delays_or_refuses_and_never_hangs() {
    run(async {
        let world = World::open(&[]).await;
        let began = processes(&world);
        let (slow, hopeless) = (wishes("slow"), wishes("hopeless"));
        ail(&world, Service::Order, "perform pg_sleep(2)").await;
        let answers = answered(&world, &slow).await;
        assert!(
            answers.contains(&StatusCode::CREATED),
            "two seconds are not too long: {answers:?}"
        );
        recover(&world, Service::Order).await;
        // Longer than a statement may take.
        ail(&world, Service::Order, "perform pg_sleep(30)").await;
        ail(&world, Service::Inventory, "perform pg_sleep(30)").await;
        let answers = answered(&world, &hopeless).await;
        assert_eq!(answers, vec![StatusCode::SERVICE_UNAVAILABLE; 5]);
        recover(&world, Service::Order).await;
        recover(&world, Service::Inventory).await;
        let placed = placed_again(&world, &[slow, hopeless].concat()).await;
        all_end_well(&world, &placed, &began).await;
    });
}

/// Row 25: a database without room is a 503 to customers and a reason to wait for consumers, who bury nothing and go
/// on by themselves once there is room.
///
/// The error is the one that PostgreSQL gives, but a trigger raises it: no disk is filled.
#[test]
fn a_full_disk_refuses_customers_and_buries_nothing() {
    run(async {
        let world = World::open(&[]).await;
        let began = processes(&world);
        let full = "raise exception 'could not extend file: No space left on device' using errcode = '53100'";
        ail(&world, Service::Inventory, full).await;
        let placed = place(&world, 5).await;
        ail(&world, Service::Order, full).await;
        let refused = wishes("full");
        let answers = answered(&world, &refused).await;
        assert_eq!(answers, vec![StatusCode::SERVICE_UNAVAILABLE; 5]);
        recover(&world, Service::Order).await;
        recover(&world, Service::Inventory).await;
        let later = placed_again(&world, &refused).await;
        all_end_well(&world, &[placed, later].concat(), &began).await;
    });
}
