//! A service: its database, its broker, its routes and what it does unasked, started and ended as one.

mod links;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::jetstream;
use axum::Router;
use events::contract::Contract;
use events::{EventType, Owner};
use futures_util::FutureExt;
use messaging::provision::Hears;
use messaging::relay::{Relay, Standing};
use messaging::replay::{Projection, Replays};
use messaging::{Db, Decisions, Errand, Reactions, WorkingSet};
use secrecy::SecretString;
use sqlx::migrate::Migrator;
use telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use links::{broker, connect, migrate, migrated, owner};

use crate::admin::Replay;
use crate::admission::Admission;
use crate::contract::Agreement;
use crate::health::{Broker, Health};
use crate::measures::Measures;
use crate::serve::{Ending, Limits, serve};
use crate::{Config, admin, surface};

/// How long everything under way may take to finish after SIGTERM.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);

/// Why a service that says nothing else is not replayed.
const ACTS: &str = "it acts on what it hears, and a replay would act again; only projections are replayed";

/// A service that is being assembled; [`Service::run`] starts it.
pub struct Service {
    name: &'static str,
    config: Config,
    telemetry: Telemetry,
    db: Db,
    jetstream: jetstream::Context,
    hears: Option<Hears>,
    /// What it reacts to.
    accepts: Vec<EventType>,
    /// Whose events it tells.
    owner: Option<Owner>,
    agreement: Agreement,
    replay: Replay,
    relay: Option<watch::Receiver<Standing>>,
    routes: Router,
    work: TaskTracker,
    /// From here on it is not ready, but still takes requests.
    announced: CancellationToken,
    shutdown: CancellationToken,
    /// Whether it ends because a task of it did.
    broken: CancellationToken,
    start: Vec<Box<dyn FnOnce() + Send>>,
}

impl Service {
    /// Connects to the database, brings its tables up to date or waits until they are, and connects to the broker.
    pub async fn start(name: &'static str, config: &Config, migrations: &Migrator) -> Result<Self> {
        let telemetry = telemetry::start(name, config.log_format)?;
        let pool = connect(name, config).await?;
        match config.migrate {
            true => migrate(&pool, migrations)
                .await
                .context("cannot migrate the database")?,
            false => migrated(&pool, migrations).await?,
        }
        Ok(Self {
            name,
            config: config.clone(),
            telemetry,
            db: Db::new(pool),
            jetstream: broker(name, &config.nats_url).await?,
            hears: None,
            accepts: Vec::new(),
            owner: None,
            agreement: Agreement::default(),
            replay: Replay::Refused(ACTS),
            relay: None,
            routes: offered(name)?,
            work: TaskTracker::new(),
            announced: CancellationToken::new(),
            shutdown: CancellationToken::new(),
            broken: CancellationToken::new(),
            start: Vec::new(),
        })
    }

    /// The service's database.
    pub fn db(&self) -> Db {
        self.db.clone()
    }

    /// Where requests and errands have their decisions taken.
    pub fn decisions<W: WorkingSet>(&self) -> Decisions<W> {
        Decisions::start(self.db.clone())
    }

    /// Serves these routes.
    #[must_use]
    pub fn serve(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// Hears events and reacts to them.
    #[must_use]
    pub fn consume<W: WorkingSet>(mut self, reactions: Reactions<W>) -> Self {
        self.hears = Some(Hears::of(&reactions));
        self.accepts = reactions.wiring().map(|(event, _)| event).collect();
        let (db, jetstream, shutdown) = (self.db.clone(), self.jetstream.clone(), self.shutdown.clone());
        let consumer = messaging::consume(db, jetstream, reactions, shutdown);
        self.agreed_task(consumer)
    }

    /// Offers to build once more what it has projected from what it heard; tables are made and exchanged by their owner,
    /// which is the service itself if no other address is given.
    pub fn replayable<W: WorkingSet + Default + Sync>(
        self,
        reactions: Reactions<W>,
        projection: Projection<W>,
        owner_url: Option<&SecretString>,
    ) -> Result<Self> {
        let db = match owner_url {
            Some(url) => owner(url)?,
            None => self.db.clone(),
        };
        let (jetstream, shutdown) = (self.jetstream.clone(), self.shutdown.clone());
        let replays = Replays::of(db, jetstream, reactions, projection, shutdown);
        Ok(Self {
            replay: Replay::Offered(replays),
            ..self
        })
    }

    /// Says what a replay would do once more; nobody can ask for one.
    #[must_use]
    pub fn never_replayed(self, because: &'static str) -> Self {
        Self {
            replay: Replay::Refused(because),
            ..self
        }
    }

    /// Publishes what the outbox holds as the owner of its stream.
    #[must_use]
    pub fn publish_as(mut self, owner: Owner) -> Self {
        self.owner = Some(owner);
        let relay = Relay::new(self.db.clone(), self.jetstream.clone(), owner, self.config.relay);
        self.relay = Some(relay.standing());
        let shutdown = self.shutdown.clone();
        self.agreed_task(relay.run(shutdown))
    }

    /// Runs errands.
    #[must_use]
    pub fn run_errand<E: Errand>(self, errand: E) -> Self {
        let (db, shutdown) = (self.db.clone(), self.shutdown.clone());
        self.task(messaging::run_errand(db, errand, shutdown))
    }

    /// Runs a task of the service's own until the token is cancelled.
    #[must_use]
    pub fn run_task<F>(self, task: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let running = task(self.shutdown.clone());
        self.task(running)
    }

    /// A task that hears or tells events, which must wait until its contract fits those of the others.
    fn agreed_task(self, task: impl Future<Output = ()> + Send + 'static) -> Self {
        let (agreement, shutdown) = (self.agreement.clone(), self.shutdown.clone());
        self.task(agreement.before(shutdown, task))
    }

    fn task(mut self, task: impl Future<Output = ()> + Send + 'static) -> Self {
        let (work, watched) = (self.work.clone(), self.watch(task));
        self.start.push(Box::new(move || drop(work.spawn(watched))));
        self
    }

    /// A task that ends by itself takes the service with it: half a service would look healthy and do nothing.
    fn watch(&self, task: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send + 'static {
        let (shutdown, broken, name) = (self.shutdown.clone(), self.broken.clone(), self.name);
        async move {
            let outcome = AssertUnwindSafe(task).catch_unwind().await;
            if !shutdown.is_cancelled() {
                tracing::error!(
                    service = name,
                    panicked = outcome.is_err(),
                    "a task ended, hence the service does"
                );
                broken.cancel();
                shutdown.cancel();
            }
        }
    }

    /// Runs until SIGTERM or Ctrl-C, then drains.
    pub async fn run(self) -> Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (ending, grace) = (self.ending(), Duration::from_millis(self.config.drain_grace_ms));
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            ending.announced.cancel();
            // Whoever shares out requests needs a moment to learn that we are no longer ready.
            tokio::time::sleep(grace).await;
            ending.stopped.cancel();
        });
        self.run_until_shutdown().await
    }

    fn ending(&self) -> Ending {
        Ending {
            announced: self.announced.clone(),
            stopped: self.shutdown.clone(),
        }
    }

    async fn run_until_shutdown(mut self) -> Result<()> {
        let (operators, finished) = self.open().await?;
        tracing::info!(service = self.name, http = %self.config.http_addr, admin = %self.config.admin_addr, "started");
        self.work.close();
        self.shutdown.cancelled().await;
        self.announced.cancel();
        tracing::info!(service = self.name, "finishing what is under way");
        if tokio::time::timeout(DRAIN_WITHIN, self.work.wait()).await.is_err() {
            tracing::warn!(
                service = self.name,
                "not everything finished in time; what is left will be redelivered"
            );
        }
        finished.cancel();
        // Somebody who is slow to look at us does not keep us.
        let _ = tokio::time::timeout(Duration::from_millis(500), operators).await;
        self.db.pool().close().await;
        tracing::info!(service = self.name, "stopped");
        self.telemetry.shut_down().await;
        if let Some(refusal) = self.agreement.refusal() {
            bail!("{refusal}");
        }
        ensure!(
            !self.broken.is_cancelled(),
            "{}: a task ended by itself, see the log",
            self.name
        );
        Ok(())
    }

    /// Listens and starts everything. The operator's listener outlives the work, so that readiness is denied to the end.
    async fn open(&mut self) -> Result<(JoinHandle<()>, CancellationToken)> {
        let public = listen(self.config.http_addr, "HTTP_ADDR").await?;
        let private = listen(self.config.admin_addr, "ADMIN_ADDR").await?;
        let hears = self.hears.take();
        let contract = Contract::of(self.owner, std::mem::take(&mut self.accepts));
        let health = Health {
            db: self.db.clone(),
            broker: Broker::new(self.jetstream.clone(), hears.clone()),
            ending: self.announced.clone(),
        };
        let measures = Measures {
            db: self.db.clone(),
            jetstream: self.jetstream.clone(),
            hears: hears.clone(),
            tells: self.owner.is_some(),
        };
        self.work.spawn(measures.take(self.shutdown.clone()));
        let admin = admin::Admin {
            db: self.db.clone(),
            jetstream: self.jetstream.clone(),
            hears,
            contract: contract.clone(),
            replay: self.replay.clone(),
            relay: self.relay.take().map(|standing| (self.config.relay, standing)),
        };
        if contract != Contract::default() {
            let (agreement, jetstream) = (self.agreement.clone(), self.jetstream.clone());
            let seeking = agreement.seek(jetstream, self.name, contract, self.shutdown.clone());
            self.work.spawn(self.watch(seeking));
        }
        std::mem::take(&mut self.start).into_iter().for_each(|start| start());
        let (db, shutdown) = (self.db.clone(), self.shutdown.clone());
        self.work
            .spawn(messaging::housekeeping::keep_house(db.clone(), shutdown.clone()));
        let admission = Admission::until(Duration::from_millis(self.config.outbox_age_limit_ms));
        self.work.spawn(admission.clone().measure(db, shutdown));

        let routes = surface(admission.guard(std::mem::take(&mut self.routes)));
        self.work
            .spawn(self.watch(serve(public, routes, Limits::default(), self.ending())));
        let finished = CancellationToken::new();
        let ending = Ending {
            announced: self.announced.clone(),
            stopped: finished.clone(),
        };
        let operators = serve(private, admin::routes(admin, health), Limits::default(), ending);
        Ok((tokio::spawn(operators), finished))
    }
}

/// What every service offers whatever its own routes are: nothing, but for the conformance suite.
#[cfg(not(feature = "conformance"))]
fn offered(_name: &'static str) -> Result<Router> {
    Ok(Router::new())
}

/// What the conformance suite asks for.
#[cfg(feature = "conformance")]
fn offered(name: &'static str) -> Result<Router> {
    tracing::warn!(
        service = name,
        "POST /test calls whoever it is told to: this build is for conformance tests only"
    );
    crate::conformance::routes()
}

async fn listen(address: SocketAddr, variable: &str) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{variable}: cannot listen on {address}"))
}
