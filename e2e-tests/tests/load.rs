//! The load tests, run with k6 for a few seconds: what they promise about correctness, on any machine.
//!
//! k6 is found or installed like the servers; `SHOP_K6=off` leaves these out where it cannot be had.

use std::path::PathBuf;

use e2e_tests::{Service, World, run};
use tokio::process::Command;
use xtask::k6::{K6, Outcome, Run};

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../load-tests")
        .join(name)
}

async fn k6() -> Option<K6> {
    if std::env::var("SHOP_K6").is_ok_and(|value| value == "off") {
        return None;
    }
    let found = K6::find_or_install(|step| eprintln!("{step}")).await;
    Some(found.unwrap_or_else(|error| panic!("{error:#}; SHOP_K6=off does without")))
}

async fn place_orders(k6: &K6, world: &World, settings: &[(&str, &str)]) -> Outcome {
    let (order_url, inventory_url) = (world.shop.url(Service::Order), world.shop.url(Service::Inventory));
    let run = Run {
        script: &script("place_order.js"),
        order_url: &order_url,
        inventory_url: &inventory_url,
        settings,
    };
    k6.run(&run).await.unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn every_load_test_is_one_that_k6_understands() {
    run(async {
        let Some(K6::Program(program)) = k6().await else { return };
        for name in ["place_order.js", "flash_sale.js", "soak.js", "spike.js"] {
            let inspected = Command::new(&program).arg("inspect").arg(script(name)).output().await;
            let inspected = inspected.unwrap_or_else(|error| panic!("{error}"));
            assert!(
                inspected.status.success(),
                "{name}: {}",
                String::from_utf8_lossy(&inspected.stderr)
            );
        }
    });
}

/// Followed to their ends, some declined, some undeliverable, half of them sent twice; then a promise that cannot be
/// kept shows that k6 takes thresholds seriously.
#[test]
fn orders_of_k6_end_as_they_must_and_leave_a_sound_shop() {
    run(async {
        let Some(k6) = k6().await else { return };
        let world = World::open(&[]).await;
        let (rate, off) = (("RATE", "8"), ("LATENCY", "off"));
        let mix = [
            ("DECLINED", "0.2"),
            ("UNDELIVERABLE", "0.2"),
            ("REPEAT", "0.5"),
            ("FOLLOW", "1"),
        ];
        let settings = [&[rate, ("DURATION", "3s"), off][..], &mix[..]].concat();
        let first = place_orders(&k6, &world, &settings).await;
        assert!(first.passed, "a threshold was crossed");

        let too_much = [rate, ("DURATION", "1s"), ("LATENCY", "on"), ("POST_P95_MS", "0")];
        let second = place_orders(&k6, &world, &too_much).await;
        assert!(!second.passed, "no order is accepted in no time");

        let seen = [first.customers, second.customers].into_iter().flatten();
        let together = seen.reduce(|mut all, more| {
            all.attempted.extend(more.attempted);
            all.accepted.extend(more.accepted);
            all
        });
        let auditor = match together {
            Some(log) => {
                assert!(!log.accepted.is_empty(), "nothing was told of the orders");
                world.auditor().with_client(log)
            }
            None => world.auditor(),
        };
        world.audit_with(auditor).await;
    });
}
