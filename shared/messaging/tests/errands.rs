//! Errands are run once, soon, and again when whoever ran them died.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use messaging::{Db, Decisions, Errand, Touched, run_errand};
use sqlx::{PgConnection, PgPool};
use telemetry::TraceContext;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::common::{Ledger, MIGRATIONS, eventually};

/// How long a parcel is leased.
const LEASE: f64 = 0.3;

/// Sends parcels; or takes them and dies, or cannot even take them.
#[derive(Clone)]
struct Send {
    pool: PgPool,
    dies: bool,
    tries: Arc<AtomicUsize>,
}

impl Errand for Send {
    type Job = Uuid;

    const NAME: &'static str = "send parcels";

    async fn take(&self, session: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Uuid>> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        sqlx::query_scalar(
            "with due as materialized (
                 select id from parcels where sent = 0 and due_at <= now()
                 order by due_at for update skip locked limit $2
             )
             update parcels set taken = taken + 1, due_at = now() + $1 * interval '1 s'
             from due where parcels.id = due.id returning parcels.id",
        )
        .bind(LEASE)
        .bind(limit)
        .fetch_all(session)
        .await
    }

    async fn perform(&self, parcel: Uuid) -> anyhow::Result<()> {
        if self.dies {
            std::future::pending::<()>().await;
        }
        let sent = sqlx::query("update parcels set sent = sent + 1 where id = $1").bind(parcel);
        sent.execute(&self.pool).await?;
        Ok(())
    }

    fn trace(_: &Uuid) -> &TraceContext {
        &TraceContext::NONE
    }

    async fn next_due(&self, session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
        let due = "select extract(epoch from min(due_at) - now())::float8 from parcels where sent = 0";
        let due: Option<f64> = sqlx::query_scalar(due).fetch_one(session).await?;
        Ok(due.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
    }
}

struct Post {
    pool: PgPool,
    db: Db,
    shutdown: CancellationToken,
}

impl Post {
    async fn new() -> Self {
        let pool = testbed::database(&MIGRATIONS).await;
        Self {
            db: Db::new(pool.clone()),
            pool,
            shutdown: CancellationToken::new(),
        }
    }

    fn sender(&self) -> Send {
        Send {
            pool: self.pool.clone(),
            dies: false,
            tries: Arc::default(),
        }
    }

    fn run(&self, sender: Send) -> tokio::task::JoinHandle<()> {
        tokio::spawn(run_errand(self.db.clone(), sender, self.shutdown.clone()))
    }

    /// Leaves parcels that are due in so many seconds, as another process would.
    async fn leave(&self, parcels: i32, due_in: f64) {
        let leave = "insert into parcels (id, due_at)
                     select gen_random_uuid(), now() + $2 * interval '1 s' from generate_series(1, $1)";
        let leave = sqlx::query(leave).bind(parcels).bind(due_in);
        leave.execute(&self.pool).await.unwrap();
    }

    async fn all_sent(&self) {
        eventually("every parcel is sent", async || {
            self.count("select count(*) from parcels where sent = 0").await == 0
        })
        .await;
    }

    async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runners_do_everything_once() {
    let post = Post::new().await;
    post.leave(300, 0.0).await;
    let runners = [post.run(post.sender()), post.run(post.sender())];
    post.all_sent().await;
    post.shutdown.cancel();
    for runner in runners {
        runner.await.unwrap();
    }
    assert_eq!(
        post.count("select count(*) from parcels where taken = 1 and sent = 1")
            .await,
        300
    );
}

/// The lease of the dead runs out, and somebody else tries.
#[tokio::test(flavor = "multi_thread")]
async fn an_errand_is_run_again_when_its_runner_died() {
    let post = Post::new().await;
    post.leave(3, 0.0).await;
    let dying = post.run(Send {
        dies: true,
        ..post.sender()
    });
    eventually("they are taken", async || {
        post.count("select count(*) from parcels where taken = 1").await == 3
    })
    .await;
    dying.abort();
    post.run(post.sender());
    post.all_sent().await;
    assert_eq!(
        post.count("select count(*) from parcels where taken = 2 and sent = 1")
            .await,
        3
    );
}

/// Long before the second after which it would look by itself.
#[tokio::test(flavor = "multi_thread")]
async fn wakes_when_something_is_due() {
    let post = Post::new().await;
    let started = Instant::now();
    for _ in 0..5 {
        let shutdown = CancellationToken::new();
        post.leave(1, 0.1).await;
        let runner = tokio::spawn(run_errand(post.db.clone(), post.sender(), shutdown.clone()));
        post.all_sent().await;
        shutdown.cancel();
        runner.await.unwrap();
    }
    let took = started.elapsed();
    assert!(
        Duration::from_millis(500) < took && took < Duration::from_secs(4),
        "{took:?}"
    );
}

/// Idle runners look once a second; ten commits wake them ten times.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_wakes_the_runner() {
    let post = Post::new().await;
    post.run(post.sender());
    let decisions = Decisions::<Ledger>::start(post.db.clone());
    let started = Instant::now();
    for _ in 0..10 {
        let decide = |ledger: &mut Ledger| (ledger.parcels.push(Uuid::now_v7()), ());
        decisions.decide(Touched::default(), decide).await.unwrap();
        post.all_sent().await;
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// Something is due all the time, but whoever cannot take it must not ask without a pause.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_cannot_take_pauses() {
    let post = Post::new().await;
    post.leave(1, 0.0).await;
    let forbid = "alter table parcels add constraint sealed check (taken = 0)";
    sqlx::query(forbid).execute(&post.pool).await.unwrap();
    let sender = post.sender();
    let (tries, started) = (sender.tries.clone(), Instant::now());
    post.run(sender);
    eventually("it has tried twice", async || tries.load(Ordering::Relaxed) > 1).await;
    assert!(
        started.elapsed() > Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(tries.load(Ordering::Relaxed), 2);
}

/// What is under way is finished first.
#[tokio::test(flavor = "multi_thread")]
async fn finishes_what_it_has_taken_before_it_stops() {
    let post = Post::new().await;
    post.leave(50, 0.0).await;
    let runner = post.run(post.sender());
    eventually("they are taken", async || {
        post.count("select count(*) from parcels where taken > 0").await > 0
    })
    .await;
    post.shutdown.cancel();
    runner.await.unwrap();
    assert_eq!(post.count("select count(*) from parcels where taken <> sent").await, 0);
}
