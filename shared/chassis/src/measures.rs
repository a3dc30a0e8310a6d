//! What is looked at now and then, because nothing of ours happens when it changes: how far the service is behind, and
//! what waits for an operator.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use messaging::provision::Hears;
use messaging::{Db, dead_letters, relay, status};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Gauge;
use telemetry::semconv;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How often: well within the interval at which anybody reads it.
const EVERY: Duration = Duration::from_secs(5);
/// How long one look may take.
const WITHIN: Duration = Duration::from_secs(3);

/// What a service measures of itself.
pub(crate) struct Measures {
    pub(crate) db: Db,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) hears: Option<Hears>,
    /// Whether it tells events, and so may have a replication slot.
    pub(crate) tells: bool,
}

struct Instruments {
    connected: Gauge<u64>,
    lag: Gauge<u64>,
    unacknowledged: Gauge<u64>,
    open: Gauge<i64>,
    slot_lag: Gauge<i64>,
    connections: Gauge<u64>,
    most_connections: Gauge<u64>,
}

impl Instruments {
    fn new() -> Self {
        let meter = telemetry::metrics::meter();
        let count = |name, description| meter.u64_gauge(name).with_description(description).build();
        let open = meter.i64_gauge("shop.dead_letters.open");
        let slot_lag = meter.i64_gauge("shop.relay.slot.lag").with_unit("By");
        Self {
            connected: count("shop.broker.connected", "1 while the broker answers, else 0"),
            lag: count("shop.consumer.lag", "Events of a stream that were not delivered yet"),
            unacknowledged: count(
                "shop.consumer.unacknowledged",
                "Events of a stream that were delivered, and neither handled nor given up",
            ),
            open: open
                .with_description("Dead letters that are open: dead ones, and those that wait behind them")
                .build(),
            slot_lag: slot_lag
                .with_description("What the replication slot holds back of the log; 0 without a slot")
                .build(),
            connections: count(
                "db.client.connection.count",
                "Connections to the database in the pool, by state",
            ),
            most_connections: count("db.client.connection.max", "How many connections the pool may have"),
        }
    }
}

impl Measures {
    /// Measures until shutdown. What cannot be read stays as it was: other metrics tell of a database or a broker that
    /// is away.
    pub(crate) async fn take(self, shutdown: CancellationToken) {
        let instruments = Instruments::new();
        let mut clock = tokio::time::interval(EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(clock.tick()).await.is_some() {
            self.of_pool(&instruments);
            self.of_broker(&instruments).await;
            if let Ok(Err(error)) = timeout(WITHIN, self.of_database(&instruments)).await {
                tracing::debug!(%error, "cannot be measured now");
            }
        }
    }

    fn of_pool(&self, instruments: &Instruments) {
        let pool = self.db.pool();
        let idle = pool.num_idle() as u64;
        let used = u64::from(pool.size()).saturating_sub(idle);
        for (state, count) in [("idle", idle), ("used", used)] {
            let label = KeyValue::new(semconv::DB_CONNECTION_STATE, state);
            instruments.connections.record(count, &[label]);
        }
        let most = pool.options().get_max_connections();
        instruments.most_connections.record(u64::from(most), &[]);
    }

    async fn of_broker(&self, instruments: &Instruments) {
        // A client may say that it is connected and be wrong: only an answer proves it.
        let answered = match &self.hears {
            Some(hears) => timeout(WITHIN, status::lags(&self.jetstream, hears))
                .await
                .ok()
                .and_then(Result::ok),
            None => (self.jetstream.client().connection_state() == State::Connected).then(Vec::new),
        };
        instruments.connected.record(answered.is_some().into(), &[]);
        for lag in answered.unwrap_or_default() {
            let labels = [
                KeyValue::new(semconv::MESSAGING_DESTINATION_NAME, lag.stream),
                KeyValue::new(semconv::MESSAGING_CONSUMER_GROUP_NAME, lag.durable),
            ];
            instruments.lag.record(lag.pending, &labels);
            instruments.unacknowledged.record(lag.unacknowledged as u64, &labels);
        }
    }

    async fn of_database(&self, instruments: &Instruments) -> sqlx::Result<()> {
        if self.hears.is_some() {
            let (dead, waiting) = dead_letters::open(self.db.pool()).await?;
            for (state, count) in [("dead", dead), ("waiting", waiting)] {
                instruments.open.record(count, &[KeyValue::new("state", state)]);
            }
        }
        if self.tells {
            // Whoever made it: one that was left behind is the dangerous one.
            let slot = relay::slot(self.db.pool()).await?;
            instruments.slot_lag.record(slot.map_or(0, |slot| slot.lag_bytes), &[]);
        }
        Ok(())
    }
}
