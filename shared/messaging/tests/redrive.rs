//! Dead letters are tried again when an operator says so, once, in order, and whatever comes of it is known.

use messaging::dead_letters::{Answer, Matching, discard, redrive_matching, redrive_one};
use uuid::Uuid;

use crate::common::{Replica, World, declined, eventually, headers, repaired, somebody_waits};
use crate::poison::unreadable;

const SERVICE: &str = "inventory";

impl World {
    /// Everything that is told ends as a dead letter or is handled, by a service that is then stopped.
    async fn with_dead_letters(codes: &[(Uuid, &str)]) -> (Self, Vec<Uuid>) {
        let world = Self::new().await;
        let mut events = Vec::new();
        for (order, code) in codes {
            events.push(world.tell(*order, code).await);
        }
        let replica = world.replica().await.consuming();
        world.all_heard().await;
        replica.stop().await;
        (world, events)
    }

    async fn letters(&self) -> Vec<(Uuid, String, String, i64)> {
        let letters = "select event_id, state, reason, attempts from dead_letters order by id";
        sqlx::query_as(letters).fetch_all(&self.pool).await.unwrap()
    }

    async fn states(&self) -> Vec<String> {
        self.letters().await.into_iter().map(|(_, state, ..)| state).collect()
    }

    async fn actions(&self, event_id: Uuid) -> Vec<(String, String, Option<String>)> {
        let actions = "select who, what, reason from dead_letter_actions where event_id = $1 order by id";
        let actions = sqlx::query_as(actions).bind(event_id);
        actions.fetch_all(&self.pool).await.unwrap()
    }

    /// What was told because of the events, in the order in which it was told.
    async fn effects(&self) -> Vec<Uuid> {
        let causes = "select causation_id from outbox order by id";
        sqlx::query_scalar(causes).fetch_all(&self.pool).await.unwrap()
    }

    async fn redriven(&self) {
        eventually("nothing waits to be redriven", async || {
            self.count("select count(*) from dead_letters where state = 'redriven' and closed_at is null")
                .await
                == 0
        })
        .await;
    }

    async fn all_closed(&self) {
        eventually("no dead letter is open", async || {
            self.count("select count(*) from dead_letters where closed_at is null")
                .await
                == 0
        })
        .await;
    }

    /// Every event is in the inbox or an open dead letter, and none is both.
    async fn assert_all_accounted_for(&self, events: &[Uuid]) {
        let twofold = "select count(*) from unnest($1::uuid[]) e
                       where (select count(*) from inbox where event_id = e)
                           + (select count(*) from dead_letters where event_id = e and closed_at is null) <> 1";
        let wrong: i64 = sqlx::query_scalar(twofold)
            .bind(events)
            .fetch_one(&self.pool)
            .await
            .unwrap();
        assert_eq!(wrong, 0, "{:?}", self.letters().await);
    }
}

async fn redrive(replica: &Replica, event_id: Uuid) -> Answer {
    redrive_one(&replica.db, SERVICE, event_id, "ada").await.unwrap()
}

fn text((who, what, reason): (&str, &str, Option<&str>)) -> (String, String, Option<String>) {
    (who.into(), what.into(), reason.map(str::to_owned))
}

/// Rows 21, 39: once repaired, a redriven event is handled, and those parked behind it follow in their order.
#[tokio::test(flavor = "multi_thread")]
async fn those_parked_behind_a_redriven_event_follow_in_their_order() {
    let (poisoned, healthy) = (Uuid::now_v7(), Uuid::now_v7());
    let told = [
        (poisoned, "faulty"),
        (poisoned, ""),
        (healthy, ""),
        (poisoned, ""),
        (poisoned, ""),
    ];
    let (world, events) = World::with_dead_letters(&told).await;
    world.assert_all_accounted_for(&events).await;
    let replica = world.replica().await.reacting(repaired());
    let parked = redrive(&replica, events[1]).await;
    assert!(matches!(parked, Answer::Refused(_)), "{parked:?}");
    assert_eq!(redrive(&replica, events[0]).await, Answer::Accepted);
    world.all_closed().await;

    assert_eq!(
        world.effects().await,
        [events[2], events[0], events[1], events[3], events[4]]
    );
    assert_eq!((world.seen(poisoned).await, world.seen(healthy).await), (4, 1));
    world.assert_all_accounted_for(&events).await;
    assert!(world.states().await.iter().all(|state| state == "redriven"));
    let expected = [
        ("ada", "redrive", Some("it is faulty\u{fffd}")),
        (SERVICE, "handled", None),
    ];
    assert_eq!(world.actions(events[0]).await, expected.map(text));
    assert_eq!(
        redrive(&replica, events[0]).await,
        Answer::Refused("it was handled already".into())
    );
    assert_eq!(redrive(&replica, Uuid::now_v7()).await, Answer::Unknown);
}

/// Row 39: redriven twice at once, with two replicas to do it, an event acts once.
#[tokio::test(flavor = "multi_thread")]
async fn redriven_twice_at_once_an_event_acts_once() {
    let told: Vec<(Uuid, &str)> = (0..20).map(|_| (Uuid::now_v7(), "faulty")).collect();
    let (world, events) = World::with_dead_letters(&told).await;
    let replicas = [
        world.replica().await.reacting(repaired()),
        world.replica().await.reacting(repaired()),
    ];
    for event_id in &events {
        let (first, second) = tokio::join!(redrive(&replicas[0], *event_id), redrive(&replicas[1], *event_id));
        assert!([first, second].contains(&Answer::Accepted));
    }
    world.all_closed().await;

    let mut effects = world.effects().await;
    effects.sort_unstable();
    assert_eq!(effects, events);
    for event_id in &events {
        assert_eq!(world.actions(*event_id).await.len(), 2, "asked once, handled once");
    }
    world.assert_all_accounted_for(&events).await;
}

/// Row 39: two replicas that try the same events at the same moment act once, also on one that fails again.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_that_try_the_same_event_act_once() {
    let told = [(Uuid::now_v7(), "faulty"), (Uuid::now_v7(), "hopeless")];
    let (world, events) = World::with_dead_letters(&told).await;
    let first = world.replica().await.reacting(repaired());
    for event_id in &events {
        // Whoever claims it waits for this transaction.
        let mut claimed = world.pool.begin().await.unwrap();
        sqlx::query("insert into inbox (event_id, consumer) values ($1, $2)")
            .bind(event_id)
            .bind(SERVICE)
            .execute(&mut *claimed)
            .await
            .unwrap();
        assert_eq!(redrive(&first, *event_id).await, Answer::Accepted);
        somebody_waits(&world.pool).await;
        let lease_ran_out = "update dead_letters set due_at = now() where state = 'redriven' and closed_at is null";
        sqlx::query(lease_ran_out).execute(&world.pool).await.unwrap();
        let second = world.replica().await.reacting(repaired());
        eventually("both stand before the claim", async || {
            let waiting = "select count(*) from pg_stat_activity
                           where wait_event_type = 'Lock' and datname = current_database()";
            world.count(waiting).await == 2
        })
        .await;
        claimed.rollback().await.unwrap();
        world.redriven().await;
        second.stop().await;
    }
    first.stop().await;
    let tries: Vec<i64> = world
        .letters()
        .await
        .into_iter()
        .map(|(.., attempts)| attempts)
        .collect();
    assert_eq!(
        (world.states().await, tries),
        (vec!["redriven".into(), "dead".into()], vec![2, 2])
    );
    assert_eq!(world.effects().await, events[..1]);
    world.assert_all_accounted_for(&events).await;
}

/// Row 39: an event that fails again is dead again with its new reason, and those behind it stay parked.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_fails_again_is_dead_again_and_the_rest_stays_parked() {
    let order = Uuid::now_v7();
    let told = [(order, "faulty"), (order, ""), (order, "hopeless"), (order, "")];
    let (world, events) = World::with_dead_letters(&told).await;
    let replica = world.replica().await.reacting(repaired());
    assert_eq!(redrive(&replica, events[0]).await, Answer::Accepted);
    eventually("the third is dead", async || world.states().await[2] == "dead").await;
    world.assert_all_accounted_for(&events).await;
    assert_eq!(world.states().await, ["redriven", "redriven", "dead", "parked"]);

    assert_eq!(redrive(&replica, events[2]).await, Answer::Accepted);
    eventually("it was tried once more", async || world.letters().await[2].3 == 3).await;
    world.redriven().await;
    let letters = world.letters().await;
    assert_eq!(letters[2], (events[2], "dead".into(), "it is hopeless".into(), 3));
    assert_eq!(letters[3].1, "parked");
    let expected = [
        (SERVICE, "failed", Some("it is hopeless")),
        ("ada", "redrive", Some("it is hopeless")),
        (SERVICE, "failed", Some("it is hopeless")),
    ];
    assert_eq!(world.actions(events[2]).await, expected.map(text));
    assert_eq!(world.seen(order).await, 2);
    world.assert_all_accounted_for(&events).await;

    let later = world.tell(order, "").await;
    world.all_heard().await;
    assert_eq!(world.letters().await[4].0, later);
    assert_eq!(
        discard(&replica.db, SERVICE, events[2], "ada", "hopeless")
            .await
            .unwrap(),
        Answer::Accepted
    );
    world.all_closed().await;
    assert_eq!(world.effects().await, [events[0], events[1], events[3], later]);
}

/// Row 39: by reason, by type or all; a dry run counts and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_redriven_and_no_other() {
    let told = ["faulty", "hopeless", "faulty", "hopeless", "faulty"].map(|code| (Uuid::now_v7(), code));
    let (world, _) = World::with_dead_letters(&told).await;
    let replica = world.replica().await;
    let ask = async |matching: &Matching, dry_run| {
        let asked = redrive_matching(&replica.db, SERVICE, matching, 1_000, "ada", dry_run);
        asked.await.unwrap()
    };
    let faulty = Matching {
        reason: Some("it is faulty\u{fffd}".into()),
        ..Matching::default()
    };
    let strangers = Matching {
        event_type: Some("shop.order.OrderPlaced.v1".into()),
        ..Matching::default()
    };
    assert_eq!((ask(&faulty, true).await, ask(&strangers, true).await), (3, 0));
    assert_eq!(ask(&Matching::default(), true).await, 5);
    assert!(world.states().await.iter().all(|state| state == "dead"));
    assert_eq!(world.count("select count(*) from dead_letter_actions").await, 0);

    assert_eq!((ask(&strangers, false).await, ask(&faulty, false).await), (0, 3));
    assert_eq!(ask(&faulty, false).await, 0);
    assert_eq!(
        world.states().await,
        ["redriven", "dead", "redriven", "dead", "redriven"]
    );
    assert_eq!(ask(&Matching::default(), false).await, 2);
    assert_eq!(
        world
            .count("select count(*) from dead_letter_actions where who = 'ada'")
            .await,
        5
    );
    let _replica = replica.reacting(repaired());
    world.redriven().await;
    assert_eq!(
        world.states().await,
        ["redriven", "dead", "redriven", "dead", "redriven"]
    );
}

/// Row 39: so many a second and no faster.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_redriven_no_faster_than_asked() {
    let told: Vec<(Uuid, &str)> = (0..4).map(|_| (Uuid::now_v7(), "faulty")).collect();
    let (world, _) = World::with_dead_letters(&told).await;
    let replica = world.replica().await.reacting(repaired());
    let all = Matching::default();
    let asked = redrive_matching(&replica.db, SERVICE, &all, 4, "ada", false).await;
    assert_eq!(asked.unwrap(), 4);
    world.all_closed().await;
    let too_soon = "select count(*) from (
                        select closed_at, row_number() over (order by id) - 1 as turn from dead_letters) d,
                        (select min(happened_at) as at from dead_letter_actions) asked
                    where closed_at < asked.at + turn * interval '250 milliseconds'";
    assert_eq!(world.count(too_soon).await, 0);
}

/// Row 39: a discarded event is gone for good, whoever delivers it again, and those behind it follow.
#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_event_does_nothing_when_it_is_delivered_again() {
    let order = Uuid::now_v7();
    let (world, events) = World::with_dead_letters(&[(order, "faulty"), (order, "")]).await;
    let replica = world.replica().await;
    let discarding = || discard(&replica.db, SERVICE, events[0], "ada", "a test order");
    assert_eq!(discarding().await.unwrap(), Answer::Accepted);
    assert_eq!(
        discarding().await.unwrap(),
        Answer::Refused("it was discarded already".into())
    );
    world.assert_all_accounted_for(&events).await;
    let expected = [("ada", "discard", Some("a test order"))];
    assert_eq!(world.actions(events[0]).await, expected.map(text));
    assert_eq!(
        redrive(&replica, events[0]).await,
        Answer::Refused("it was discarded already".into())
    );

    let _replica = replica.reacting(repaired());
    world.all_closed().await;
    world.tell_as(events[0], order, "").await;
    world.all_heard().await;
    assert_eq!(world.effects().await, [events[1]]);
    assert_eq!(world.states().await, ["discarded", "redriven"]);
}

/// What is delivered again while it waits for its turn stays one dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_dead_letter_that_is_delivered_again_stays_what_it_is() {
    let order = Uuid::now_v7();
    let (world, events) = World::with_dead_letters(&[(order, "faulty"), (order, "")]).await;
    let before = world.letters().await;
    let _replica = world.replica().await.reacting(repaired());
    for event_id in &events {
        world.tell_as(*event_id, order, "").await;
    }
    world.all_heard().await;
    assert_eq!(world.letters().await, before);
    world.assert_all_accounted_for(&events).await;
}

/// Row 39: what is kept of an event is all that there was, however strange it is: it fails as it did before.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_read_cannot_be_read_when_it_is_redriven() {
    let world = World::new().await;
    let poison = unreadable();
    for (headers, payload, _) in &poison {
        world.publish(headers.clone(), payload.clone()).await;
    }
    let replica = world.replica().await.consuming();
    world.all_heard().await;
    let mut expected = world.letters().await;
    expected.iter_mut().for_each(|(.., attempts)| *attempts += 1);
    let all = Matching::default();
    let asked = redrive_matching(&replica.db, SERVICE, &all, 1_000, "ada", false);
    assert_eq!(asked.await.unwrap(), poison.len() as i64);
    world.redriven().await;
    assert_eq!(world.letters().await, expected);
}

/// A redriven event stays in the trace of whoever told it, and keeps its id.
#[tokio::test(flavor = "multi_thread")]
async fn a_redriven_event_keeps_its_trace() {
    opentelemetry::global::set_tracer_provider(opentelemetry_sdk::trace::SdkTracerProvider::builder().build());
    let world = World::new().await;
    let (event_id, event) = (Uuid::now_v7(), declined(Uuid::now_v7(), "faulty"));
    let mut headers = headers(event_id, &event);
    headers.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    world.publish(headers, serde_json::to_vec(&event).unwrap()).await;
    let replica = world.replica().await.consuming();
    world.all_heard().await;
    replica.stop().await;
    let replica = world.replica().await.reacting(repaired());
    assert_eq!(redrive(&replica, event_id).await, Answer::Accepted);
    world.all_closed().await;
    let told: (Uuid, String) = sqlx::query_as("select causation_id, traceparent from outbox")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(
        (told.0, &told.1[..36]),
        (event_id, "00-0af7651916cd43dd8448eb211c80319c-")
    );
}

/// Row 7: a process may die over a redriven event as well; after the third time it is dead again.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_kills_whoever_redrives_it_is_not_redriven_for_ever() {
    let order = Uuid::now_v7();
    let (world, events) = World::with_dead_letters(&[(order, "faulty"), (order, "")]).await;
    let replica = world.replica().await;
    assert_eq!(redrive(&replica, events[0]).await, Answer::Accepted);
    // As three processes leave it that took it and died.
    sqlx::query("update dead_letters set begun = 3 where state = 'redriven'")
        .execute(&world.pool)
        .await
        .unwrap();
    let _replica = replica.reacting(repaired());
    world.redriven().await;
    let letters = world.letters().await;
    assert_eq!(letters[0].1, "dead");
    assert_eq!(letters[0].2, "redriven, and never with an outcome");
    assert_eq!(letters[1].1, "parked");
    world.assert_all_accounted_for(&events).await;
}
