//! Deaths at every place where one could hurt: nothing is lost, nothing happens twice.
//!
//! The places are the fault points of the messaging core and of the services' errands. They are in the binaries
//! that `cargo build --workspace --bins` makes.

mod flow;
mod matrix;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e_tests::{PATIENCE, Service, Wish, World, run};
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use uuid::Uuid;

static LABORATORY: OnceCell<Mutex<World>> = OnceCell::const_new();

/// A shop in which nothing moves but what the test moves; one test at a time.
async fn laboratory() -> anyhow::Result<MutexGuard<'static, World>> {
    let open = || async {
        let world = World::open(&[(Service::Payment, "GATEWAY_TIMEOUT_MS", "1000")]).await;
        world.redeliver_after(Duration::from_secs(1)).await?;
        anyhow::Ok(Mutex::new(world))
    };
    let world = LABORATORY.get_or_try_init(open).await?.lock().await;
    for service in Service::ALL {
        for (point, _) in messaging::fault_points::ALL {
            world.shop.disarm(service, point);
        }
        world.shop.start_service(service).await?;
    }
    world.drained().await?;
    world.shop.drained(PATIENCE).await?;
    Ok(world)
}

fn a_wish() -> Wish {
    Wish::of("TEA-ASSAM").key(&Uuid::now_v7().to_string())
}

/// Sends the wish to a service that dies at this point, once; nobody may rely on the answer.
async fn order_and_die(world: &World, service: Service, point: &str, wish: &Wish) -> anyhow::Result<()> {
    world.shop.arm(service, point, "abort")?;
    let answer = world.order_once(wish).await;
    world
        .died(service, point)
        .await
        .with_context(|| format!("the customer was told {answer:?}"))
}

/// The order under the key of the wish, if there is one.
async fn order_of(world: &World, wish: &Wish) -> anyhow::Result<Option<Uuid>> {
    let query = "select order_id from idempotency_keys where scope like '%:' || $1";
    let order = sqlx::query_scalar(query).bind(wish.key.as_deref());
    Ok(order.fetch_optional(&world.pool(Service::Order).await?).await?)
}

async fn count(world: &World, service: Service, query: &'static str, id: Uuid) -> anyhow::Result<i64> {
    let counted = sqlx::query_scalar(query).bind(id.to_string());
    Ok(counted.fetch_one(&world.pool(service).await?).await?)
}

/// The id of the event that told of the order, wherever it is now.
async fn placed(world: &World, order: Uuid) -> anyhow::Result<Uuid> {
    let query = "
        select event_id from outbox where subject = $1 and event_type like '%.OrderPlaced.%'
        union
        select event_id from outbox_published where subject = $1 and event_type like '%.OrderPlaced.%'";
    let id = sqlx::query_scalar(query).bind(order.to_string());
    Ok(id.fetch_one(&world.pool(Service::Order).await?).await?)
}

/// What inventory has made of an order: reservations, inbox rows of the event, answers told.
async fn effects(world: &World, order: Uuid, event: Uuid) -> anyhow::Result<(i64, i64, i64)> {
    let told = "
        select (select count(*) from outbox where subject = $1 and event_type like '%.InventoryReserved.%')
             + (select count(*) from outbox_published where subject = $1 and event_type like '%.InventoryReserved.%')";
    let held = "select count(*) from reservations where order_id = $1::uuid";
    let heard = "select count(*) from inbox where event_id = $1::uuid";
    Ok((
        count(world, Service::Inventory, held, order).await?,
        count(world, Service::Inventory, heard, event).await?,
        count(world, Service::Inventory, told, order).await?,
    ))
}

/// Everybody is through with everything, and the books agree.
async fn settled(world: &World, order: Uuid) -> anyhow::Result<()> {
    let ended = world.ended(order).await;
    ensure!(ended["state"] == "COMPLETED", "{ended}");
    world.audit().await;
    world.shop.drained(PATIENCE).await
}

/// Row 1: an order service that dies before its commit leaves nothing, and the customer who asks again has one order.
#[test]
fn an_order_that_was_not_committed_never_was() -> anyhow::Result<()> {
    run(async {
        let world = laboratory().await?;
        let orders = world.pool(Service::Order).await?;
        let known = async || {
            sqlx::query_scalar::<_, i64>("select count(*) from orders")
                .fetch_one(&orders)
                .await
        };
        for point in ["unit.claimed", "unit.saved"] {
            let (before, wish) = (known().await?, a_wish());
            order_and_die(&world, Service::Order, point, &wish).await?;
            ensure!(
                order_of(&world, &wish).await?.is_none(),
                "an answer is kept, at {point}"
            );
            ensure!(known().await? == before, "an order is kept, at {point}");

            world.shop.start_service(Service::Order).await?;
            let id = world.place_stubbornly(&wish).await?;
            ensure!(world.place_stubbornly(&wish).await? == id, "a second order, at {point}");
            ensure!(known().await? == before + 1, "a third order, at {point}");
            settled(&world, id).await?;
        }
        Ok(())
    })
}

/// Row 2: an order service that dies after its commit gives the customer who asks again the answer that was lost.
#[test]
fn an_order_that_was_committed_is_answered_when_asked_for_again() -> anyhow::Result<()> {
    run(async {
        let world = laboratory().await?;
        for point in ["unit.committed", "decisions.unanswered"] {
            let wish = a_wish();
            world.shop.arm(Service::Order, point, "abort")?;
            let cut = world.order_once(&wish).await;
            ensure!(cut.is_err(), "answered in spite of {point}: {cut:?}");
            world.died(Service::Order, point).await?;
            let kept = order_of(&world, &wish).await?.context("nothing is committed")?;

            world.shop.start_service(Service::Order).await?;
            let request = world.http.post(format!("{}/v1/orders", world.shop.url(Service::Order)));
            let key = wish.key.as_deref().unwrap_or_default();
            let answer = request.header("idempotency-key", key).json(&wish.body()).send().await?;
            ensure!(answer.status() == 201, "{answer:?}");
            let replayed = answer.headers().get("idempotent-replayed");
            ensure!(replayed.is_some_and(|value| value == "true"), "{answer:?}");
            let order: serde_json::Value = answer.json().await?;
            ensure!(order["id"] == kept.to_string(), "{order} but {kept} was committed");
            settled(&world, kept).await?;
        }
        Ok(())
    })
}

/// Row 3: a relay that dies with a batch in its hands publishes it after its restart, each event once.
#[test]
fn an_event_that_was_read_and_not_published_is_published_once() -> anyhow::Result<()> {
    run(async {
        let world = laboratory().await?;
        let wish = a_wish();
        order_and_die(&world, Service::Order, "relay.read", &wish).await?;
        let order = order_of(&world, &wish).await?.context("nothing is committed")?;
        let event = placed(&world, order).await?;
        ensure!(world.times_in_stream("ORDER", event).await? == 0, "it is published");

        world.shop.start_service(Service::Order).await?;
        settled(&world, order).await?;
        ensure!(world.times_in_stream("ORDER", event).await? == 1);
        ensure!(effects(&world, order, event).await? == (1, 1, 1));
        Ok(())
    })
}

/// Row 3: of a batch that was sent by half nothing is in the stream until the whole of it is, once.
#[test]
fn a_batch_that_was_sent_by_half_is_published_once() -> anyhow::Result<()> {
    run(async {
        let world = laboratory().await?;
        // The first keeps the relay busy, so that the others are one batch.
        world.shop.arm(Service::Order, "relay.read", "delay 1000")?;
        let mut orders = vec![world.place(&a_wish()).await];
        world.happened(Service::Order, "relay.read").await?;
        for _ in 0..5 {
            orders.push(world.place(&a_wish()).await);
        }
        world.shop.arm(Service::Order, "relay.half-sent", "abort 2")?;
        world.died(Service::Order, "relay.half-sent").await?;
        let mut events = Vec::new();
        for order in &orders {
            events.push(placed(&world, *order).await?);
        }
        for event in &events[1..] {
            ensure!(
                world.times_in_stream("ORDER", *event).await? == 0,
                "half a batch is published"
            );
        }
        world.shop.start_service(Service::Order).await?;
        for (order, event) in orders.into_iter().zip(events) {
            settled(&world, order).await?;
            ensure!(world.times_in_stream("ORDER", event).await? == 1);
            ensure!(effects(&world, order, event).await? == (1, 1, 1));
        }
        Ok(())
    })
}

/// Row 4: a relay that dies after publishing publishes again, and the stream and everybody's books hold it once.
#[test]
fn an_event_that_was_published_and_not_forgotten_is_in_the_stream_once() -> anyhow::Result<()> {
    run(async {
        let world = laboratory().await?;
        for (point, waiting) in [("relay.published", 1), ("relay.forgotten", 0)] {
            let wish = a_wish();
            order_and_die(&world, Service::Order, point, &wish).await?;
            let order = order_of(&world, &wish).await?.context("nothing is committed")?;
            let event = placed(&world, order).await?;
            let in_outbox = "select count(*) from outbox where event_id = $1::uuid";
            ensure!(
                count(&world, Service::Order, in_outbox, event).await? == waiting,
                "{point}"
            );
            ensure!(world.times_in_stream("ORDER", event).await? == 1, "{point}");

            world.shop.start_service(Service::Order).await?;
            settled(&world, order).await?;
            ensure!(world.times_in_stream("ORDER", event).await? == 1, "{point}");
            ensure!(effects(&world, order, event).await? == (1, 1, 1), "{point}");
        }
        Ok(())
    })
}

/// Row 5: a consumer that dies before its commit has done nothing, and does it once when it is back.
#[test]
fn an_event_whose_handling_was_not_committed_is_handled_once() -> anyhow::Result<()> {
    dies_over_an_event(&["consumer.heard", "unit.claimed", "unit.saved"], (0, 0, 0))
}

/// Row 6: a consumer that dies between its commit and the acknowledgement recognises the event when it comes again.
#[test]
fn an_event_that_was_not_acknowledged_is_recognised() -> anyhow::Result<()> {
    dies_over_an_event(&["unit.committed", "consumer.unacknowledged"], (1, 1, 1))
}

/// Inventory dies over an order and leaves these effects; in the end there is one of each.
fn dies_over_an_event(points: &[&str], left: (i64, i64, i64)) -> anyhow::Result<()> {
    run(async {
        let world = laboratory().await?;
        for point in points {
            let wish = a_wish();
            order_and_die(&world, Service::Inventory, point, &wish).await?;
            let order = world.place_stubbornly(&wish).await?;
            let event = placed(&world, order).await?;
            let found = effects(&world, order, event).await?;
            ensure!(found == left, "{found:?} at {point}");

            world.shop.start_service(Service::Inventory).await?;
            settled(&world, order).await?;
            let found = effects(&world, order, event).await?;
            ensure!(found == (1, 1, 1), "{found:?} at {point}");
        }
        Ok(())
    })
}

/// Row 14: a connection that is cut around a commit or a publication leaves the outcome open, and it is found out.
#[test]
fn a_step_whose_outcome_is_unknown_is_taken_once() -> anyhow::Result<()> {
    use Service::{Analytics, Email, Inventory, Order, Payment, Warehouse};
    run(async {
        let world = laboratory().await?;
        let cuts: [(&str, &[Service]); 4] = [
            ("unit.saved", &[Order, Inventory, Payment, Warehouse, Analytics]),
            (
                "unit.committed",
                &[Order, Inventory, Payment, Warehouse, Email, Analytics],
            ),
            ("decisions.unanswered", &[Order]),
            ("relay.published", &[Order, Inventory, Payment, Warehouse, Email]),
        ];
        for (point, services) in cuts {
            let pids = services.iter().map(|service| world.shop.pid(*service));
            let pids: Vec<_> = pids.collect();
            for service in services {
                world.shop.arm(*service, point, "error")?;
            }
            let order = world.place_stubbornly(&a_wish()).await?;
            for service in services {
                world.happened(*service, point).await?;
            }
            settled(&world, order).await?;
            for (service, pid) in services.iter().zip(pids) {
                ensure!(world.shop.pid(*service) == pid, "{service} has ended, after {point}");
            }
        }
        Ok(())
    })
}

/// Without this the other tests of this module would say so too, each after a minute.
#[test]
fn the_services_under_test_have_fault_points() -> anyhow::Result<()> {
    run(async {
        let world = laboratory().await?;
        for service in Service::ALL {
            world.shop.arm(service, "consumer.heard", "delay 1")?;
        }
        let order = world.place(&a_wish()).await;
        for service in Service::ALL {
            world.happened(service, "consumer.heard").await?;
        }
        settled(&world, order).await
    })
}
