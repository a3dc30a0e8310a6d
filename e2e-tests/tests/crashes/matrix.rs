//! Every fault point of every service, once alone and once amid a batch, with customers coming all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e_tests::{Service, TELLERS, World, run};
use futures_util::future::try_join_all;
use messaging::fault_points;

use super::flow;

const CONSUMING: [&str; 6] = [
    "unit.claimed",
    "unit.saved",
    "unit.committed",
    "consumer.heard",
    "consumer.unacknowledged",
    "consumer.half-acknowledged",
];
const TELLING: [&str; 4] = ["relay.read", "relay.half-sent", "relay.published", "relay.forgotten"];
/// The first time that the point is reached, and amid a batch or while others are under way.
const FAULTS: [&str; 2] = ["abort", "abort 3"];

/// Where a service can die. What it was doing for somebody outside comes first: it waits for the end of a lease,
/// and may do so while the others die.
fn points(service: Service) -> Vec<&'static str> {
    let errands: &[&str] = match service {
        Service::Order => &["errand.taken", "decisions.unanswered"],
        Service::Payment => &[
            "gateway.unasked",
            "gateway.answered",
            "errand.taken",
            "decisions.unanswered",
        ],
        Service::Inventory => &["decisions.unanswered"],
        Service::Warehouse => &["carrier.handed-over", "errand.taken", "decisions.unanswered"],
        Service::Email => &["mail.unsent", "mail.sent", "errand.taken", "decisions.unanswered"],
        _ => &[],
    };
    let telling = if TELLERS.contains(&service) { &TELLING[..] } else { &[] };
    [errands, &CONSUMING, telling].concat()
}

type Deaths = BTreeMap<(&'static str, Service), usize>;

/// Lets one service die at each of its points, one death after the other.
async fn column(world: &World, service: Service) -> anyhow::Result<Deaths> {
    let mut deaths = Deaths::new();
    for point in points(service) {
        for fault in FAULTS {
            world.shop.arm(service, point, fault)?;
            let died = world.died(service, point).await;
            died.with_context(|| format!("{service} was to {fault} at {point}"))?;
            world.shop.start_service(service).await?;
            *deaths.entry((point, service)).or_default() += 1;
        }
    }
    Ok(deaths)
}

fn print(deaths: &Deaths) {
    let names = Service::ALL.map(|service| format!("{:>10}", service.name())).concat();
    println!("{:<28}{names}", "deaths at");
    for (point, _) in fault_points::ALL {
        let cells = Service::ALL.map(|service| match deaths.get(&(point, service)) {
            Some(times) => format!("{times:>10}"),
            None => format!("{:>10}", "—"),
        });
        println!("{point:<28}{}", cells.concat());
    }
}

/// Rows 1, 2, 3, 4, 5, 6: wherever any service dies, under load and with others dying too, every order ends once, as
/// it should, and all books agree.
#[test]
fn wherever_a_service_dies_nothing_is_lost_or_doubled() -> anyhow::Result<()> {
    run(async {
        let started = Instant::now();
        let world = World::open(&[
            (Service::Order, "ORDER_PAY_WITHIN_MS", "15000"),
            (Service::Payment, "GATEWAY_TIMEOUT_MS", "1000"),
            (Service::Payment, "GATEWAY_SETTLES_WITHIN_MS", "2000"),
        ])
        .await;
        world.redeliver_after(Duration::from_secs(5)).await?;
        let over = AtomicBool::new(false);
        let dying = async {
            let columns = try_join_all(Service::ALL.map(|service| column(&world, service))).await;
            over.store(true, Ordering::Relaxed);
            columns
        };
        let (columns, customers, delivered) =
            futures_util::future::join3(dying, flow::customers(&world, &over), flow::deliveries(&world, &over)).await;
        let deaths: Deaths = columns?.into_iter().flatten().collect();
        delivered?;
        let placed: BTreeSet<_> = customers?.into_iter().collect();
        println!(
            "{} deaths and {} orders in {:.0?}",
            deaths.values().sum::<usize>(),
            placed.len(),
            started.elapsed()
        );
        print(&deaths);

        world.audit().await;
        let orders = world.pool(Service::Order).await?;
        let known: i64 = sqlx::query_scalar("select count(*) from orders")
            .fetch_one(&orders)
            .await?;
        ensure!(
            known as usize == placed.len(),
            "{known} orders for {} keys",
            placed.len()
        );
        println!("everything has ended and agrees after {:.0?}", started.elapsed());
        Ok(())
    })
}

/// A point that is added without a place in the matrix would never be tried.
#[test]
fn every_fault_point_is_somewhere_in_the_matrix() {
    let tried: BTreeSet<&str> = Service::ALL.into_iter().flat_map(points).collect();
    let known: BTreeSet<&str> = fault_points::ALL.iter().map(|(point, _)| *point).collect();
    assert_eq!(tried, known);
}
