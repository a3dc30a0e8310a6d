//! What follows from the events heard, in a real database.
#![allow(clippy::unwrap_used)]

mod support;

use events::{Event, OrderCompleted};
use messaging::{Db, Decisions};
use newcomer::{MIGRATIONS, reactions, store};
use support::hear;
use uuid::Uuid;

#[tokio::test]
async fn each_event_is_a_point_for_what_it_is_about() {
    let pool = testbed::database(&MIGRATIONS).await;
    let decisions = Decisions::start(Db::new(pool.clone()));
    let (one, other) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
    hear(&decisions, &one).await;
    hear(&decisions, &other).await;
    hear(&decisions, &one).await;
    assert_eq!(store::points(&pool, &one).await.unwrap(), Some(2));
    assert_eq!(store::points(&pool, &other).await.unwrap(), Some(1));
    assert_eq!(store::totals(&pool).await.unwrap(), (2, 3));
}

/// Both open the account of the same subject, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_that_hear_of_the_same_subject_at_once_lose_no_point() {
    let pool = testbed::database(&MIGRATIONS).await;
    let replicas = [(); 2].map(|()| Decisions::start(Db::new(pool.clone())));
    for _ in 0..20 {
        let subject = Uuid::now_v7().to_string();
        tokio::join!(hear(&replicas[0], &subject), hear(&replicas[1], &subject));
        assert_eq!(store::points(&pool, &subject).await.unwrap(), Some(2));
    }
}

#[test]
fn newcomer_hears_one_event_and_tells_nothing() {
    let reactions = reactions::reactions();
    let wiring: Vec<_> = reactions.wiring().collect();
    assert_eq!(wiring, [(OrderCompleted::TYPE, &[][..])]);
}
