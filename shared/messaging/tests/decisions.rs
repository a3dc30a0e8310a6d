//! Decisions share transactions, and whoever asks for one may leave, err or panic without harm to the others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use events::Fault;
use futures_util::future::{self, BoxFuture};
use futures_util::{FutureExt, poll};
use messaging::{Db, Decisions, Touched, Undecided};
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::common::{Ledger, MIGRATIONS, eventually, hold, see, somebody_waits};

type Answer = Result<(), Undecided>;

struct Desk {
    pool: PgPool,
    decisions: Decisions<Ledger>,
    busy_with: Uuid,
}

impl Desk {
    async fn new() -> Self {
        let pool = testbed::database(&MIGRATIONS).await;
        let decisions = Decisions::start(Db::new(pool.clone()));
        let desk = Self {
            pool,
            decisions,
            busy_with: Uuid::now_v7(),
        };
        desk.see(desk.busy_with).await.unwrap();
        desk
    }

    fn see(&self, order: Uuid) -> BoxFuture<'static, Answer> {
        self.decide(order, move |ledger| drop(see(ledger, order)))
    }

    fn decide(&self, order: Uuid, mut decide: impl FnMut(&mut Ledger) + Send + 'static) -> BoxFuture<'static, Answer> {
        let decisions = self.decisions.clone();
        let decide = move |ledger: &mut Ledger| (decide(ledger), ());
        async move { decisions.decide(Touched::order(order), decide).await }.boxed()
    }

    /// Keeps it busy until the lock is released: whatever is asked meanwhile is the next batch.
    async fn keep_busy(&self) -> Transaction<'static, Postgres> {
        let lock = hold(&self.pool, self.busy_with).await;
        tokio::spawn(self.see(self.busy_with));
        somebody_waits(&self.pool).await;
        lock
    }

    async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }
}

#[tokio::test]
async fn concurrent_decisions_share_a_transaction() {
    let desk = Desk::new().await;
    let lock = desk.keep_busy().await;
    let mut asked = future::try_join_all((0..100).map(|_| desk.see(Uuid::now_v7())));
    assert!(poll!(&mut asked).is_pending());
    lock.rollback().await.unwrap();
    asked.await.unwrap();

    assert_eq!(desk.count("select count(*) from ledger").await, 1 + 100);
    assert_eq!(desk.count("select count(*) from units").await, 1 + 1 + 1);
}

/// Row 8: whoever asked has hung up; what was decided is committed all the same.
#[tokio::test]
async fn a_decision_is_committed_although_nobody_waits_for_it() {
    let desk = Desk::new().await;
    let lock = desk.keep_busy().await;
    assert!(desk.see(Uuid::now_v7()).now_or_never().is_none());
    lock.rollback().await.unwrap();
    eventually("it is committed", async || {
        desk.count("select count(*) from ledger").await == 2
    })
    .await;
}

/// Row 8: after a thousand callers have hung up no session is left in a transaction, and no later decision is lost in
/// one.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callers_hang_up_without_harm() {
    let desk = Desk::new().await;
    let (taken, begun) = (
        Arc::new(AtomicUsize::new(0)),
        desk.count("select count(*) from ledger").await,
    );
    for _ in 0..20 {
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let (order, taken) = (Uuid::now_v7(), taken.clone());
                tokio::spawn(desk.decide(order, move |ledger| {
                    taken.fetch_add(1, Ordering::Relaxed);
                    drop(see(ledger, order));
                }))
            })
            .collect();
        tokio::task::yield_now().await;
        callers.iter().for_each(|caller| caller.abort());
        future::join_all(callers).await;
    }
    eventually("the queue has room", async || desk.see(Uuid::now_v7()).await.is_ok()).await;
    for _ in 0..20 {
        desk.see(Uuid::now_v7()).await.unwrap();
    }
    let taken = taken.load(Ordering::Relaxed) as i64;
    assert!(taken > 0, "every caller was too quick");
    assert_eq!(desk.count("select count(*) from ledger").await, begun + taken + 21);
    let in_transaction = "select count(*) from pg_stat_activity
                          where datname = current_database() and state like 'idle in transaction%'";
    assert_eq!(desk.count(in_transaction).await, 0);
}

/// Row 15: when too many decisions wait, the next one is refused at once instead of queued for ever.
#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let desk = Desk::new().await;
    let lock = desk.keep_busy().await;
    let mut waiting = Vec::new();
    let refusal = loop {
        let mut asked = desk.see(Uuid::now_v7());
        match (&mut asked).now_or_never() {
            Some(answer) => break answer,
            None => waiting.push(asked),
        }
        assert!(waiting.len() < 10_000, "the queue has no end");
    };
    assert!(matches!(refusal, Err(Undecided::Overloaded)), "{refusal:?}");
    lock.rollback().await.unwrap();
    future::try_join_all(waiting).await.unwrap();
}

/// Each in the same batch as two others that are decided all the same.
#[tokio::test]
async fn a_decision_that_breaks_or_panics_does_so_alone() {
    let desk = Desk::new().await;
    let order = Uuid::now_v7();
    let faulty = |_: &mut Ledger| ((), Err::<(), _>(Fault::new("it is faulty")));
    let troubles: [(BoxFuture<Answer>, &str); 4] = [
        (desk.decide(order, |_| panic!("it panics")), "the decision panicked"),
        (
            desk.decide(order, move |ledger| ledger.overdraw(order)),
            "ledger_seen_check",
        ),
        (desk.decide(order, |ledger| ledger.label("taken")), "labels_pkey"),
        (
            desk.decisions.decide(Touched::order(order), faulty).boxed(),
            "it is faulty",
        ),
    ];
    for (trouble, reason) in troubles {
        let lock = desk.keep_busy().await;
        let mut asked = future::join3(desk.see(Uuid::now_v7()), trouble, desk.see(Uuid::now_v7()));
        assert!(poll!(&mut asked).is_pending());
        lock.rollback().await.unwrap();
        let (before, answer, after) = asked.await;
        assert!(before.is_ok() && after.is_ok(), "{reason}: {before:?} {after:?}");
        assert!(
            answer.as_ref().is_err_and(|error| error.to_string().contains(reason)),
            "{answer:?}"
        );
    }
    assert_eq!(desk.count("select count(*) from ledger").await, 1 + 4 * 2);
}

/// In the outbox it would be in the way of every other event for ever.
#[tokio::test]
async fn an_event_that_the_broker_would_refuse_is_not_committed() {
    let desk = Desk::new().await;
    let (decisions, order) = (desk.decisions.clone(), Uuid::now_v7());
    let decide = move |ledger: &mut Ledger| {
        let mut event = see(ledger, order);
        event.cause = "x".repeat(300_000);
        ((), event)
    };
    let answer = decisions.decide(Touched::order(order), decide).await;
    assert!(matches!(answer, Err(Undecided::Broken(_))), "{answer:?}");
    assert_eq!(desk.count("select count(*) from ledger").await, 1);
    desk.see(order).await.unwrap();
}

/// Two processes find the same order unknown: one of them decides again on what the other left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_race_is_decided_again() {
    let desk = Desk::new().await;
    let other = Desk {
        decisions: Decisions::start(Db::new(desk.pool.clone())),
        pool: desk.pool.clone(),
        busy_with: desk.busy_with,
    };
    let (order, both_have_loaded) = (Uuid::now_v7(), Arc::new(Barrier::new(2)));
    let decided = Arc::new(AtomicUsize::new(0));
    let race = |desk: &Desk| {
        let (barrier, decided, mut first) = (both_have_loaded.clone(), decided.clone(), true);
        desk.decide(order, move |ledger| {
            if std::mem::take(&mut first) {
                tokio::task::block_in_place(|| barrier.wait());
            }
            decided.fetch_add(1, Ordering::Relaxed);
            drop(see(ledger, order));
        })
    };
    let (one, two) = tokio::join!(race(&desk), race(&other));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert_eq!(desk.count("select max(seen)::bigint from ledger").await, 2);
    assert_eq!(decided.load(Ordering::Relaxed), 3);
}
