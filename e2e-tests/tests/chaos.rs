//! Everything at once: a short run of `cargo shop chaos`, whose long runs find what no other test looks for.

use std::time::Duration;

use e2e_tests::run;
use testbed::{Durability, Scratch};
use xtask::chaos::{self, Options};

/// Rows 1, 2, 5, 6, 9, 13, 14, 16, 17, 29: whatever is killed, stopped, cut, stalled and slowed in whatever order, no
/// order is lost, nothing happens twice, and every order comes to its end within a minute.
#[test]
fn a_seeded_half_minute_of_faults_leaves_a_sound_shop() {
    run(async {
        let scratch = Scratch::new("chaos").await.unwrap_or_else(|error| panic!("{error:#}"));
        let options = Options {
            seed: 20,
            length: Duration::from_secs(25),
            orders_per_second: 10.0,
            home: scratch.path().join("shop"),
            binaries: None,
            durability: Durability::Test,
            progress: |step| println!("{step}"),
        };
        let outcome = chaos::run(&options).await.unwrap_or_else(|error| panic!("{error:#}"));
        println!("{}", outcome.text());
        assert!(
            outcome.accepted() > 100,
            "only {} orders were accepted",
            outcome.accepted()
        );
        assert!(
            outcome.faults.len() > 8,
            "only {} faults happened",
            outcome.faults.len()
        );
        assert!(outcome.is_sound(), "{:#?}", outcome.breaches);
    });
}
