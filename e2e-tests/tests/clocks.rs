//! A service whose clock is wrong: nothing is decided by the clock of a process.

use e2e_tests::{Service, Wish, World, run};

/// Row 23: a service whose clock is an hour ahead or behind takes, cancels and completes orders like any other.
#[test]
fn a_clock_that_is_an_hour_off_changes_nothing() {
    let library = match testbed::faketime() {
        Ok(library) => library,
        Err(error) if std::env::var_os("TIDINGS_WITHOUT_FAKETIME").is_some() => {
            println!("SKIPPED, as TIDINGS_WITHOUT_FAKETIME allows: {error:#}");
            return;
        }
        Err(error) => panic!("no clock can be set wrong: {error:#}"),
    };
    let library = library.to_string_lossy().into_owned();
    run(async {
        for (service, skew) in [
            (Service::Order, "+1h"),
            (Service::Order, "-1h"),
            (Service::Payment, "+1h"),
            (Service::Payment, "-1h"),
        ] {
            println!("{service} {skew}");
            orders_end_well(&library, service, skew).await;
        }
    });
}

async fn orders_end_well(library: &str, service: Service, skew: &str) {
    // Timers run by the monotonic clock, which is right.
    let skewed = [
        (service, "LD_PRELOAD", library),
        (service, "FAKETIME", skew),
        (service, "FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let world = World::open(&skewed).await;
    assert!(is_skewed(&world, service), "the clock of {service} is right");
    let happy = world.place(&Wish::of("TEA-ASSAM")).await;
    let declined = world
        .place(&Wish::of("TEA-ASSAM").paid_by("pm_card_chargeDeclined"))
        .await;
    let held_up = world.shop.pause(Service::Warehouse).await;
    held_up.unwrap_or_else(|error| panic!("{error:#}"));
    let cancelled = world.place(&Wish::of("TEA-SENCHA")).await;
    let (status, body) = world.cancel(cancelled).await.unwrap_or_default();
    assert_eq!(status, 202, "{body}");
    let goes_on = world.shop.resume(Service::Warehouse).await;
    goes_on.unwrap_or_else(|error| panic!("{error:#}"));

    let state = async |id| world.ended(id).await["state"].clone();
    assert_eq!(state(happy).await, "COMPLETED");
    assert_eq!(state(declined).await, "CANCELLED");
    assert_eq!(state(cancelled).await, "CANCELLED");
    world.audit().await;
}

/// Whether the lines that the service logs bear another hour than ours.
fn is_skewed(world: &World, service: Service) -> bool {
    let log = world.shop.log(service);
    let stamps = log.lines().filter_map(|line| line.split_whitespace().next());
    let times = stamps.filter_map(|stamp| stamp.parse::<chrono::DateTime<chrono::Utc>>().ok());
    let off = times.map(|time| (time - chrono::Utc::now()).num_minutes().abs());
    off.max().is_some_and(|minutes| minutes > 50)
}
