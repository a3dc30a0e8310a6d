//! The whole shop under test: real binaries, real PostgreSQL, real JetStream, real OTLP, on free
//! ports and in a temporary folder, so that tests depend on nothing that happens to run here.

pub mod audit;
mod crash;
mod customer;

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream;
use messaging::provision::Settings;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use trace_viewer::Viewer;
use uuid::Uuid;
use xtask::shop::{FORGER, PROVISIONER, Shop, ShopOptions};

pub use customer::Wish;
pub use xtask::shop::Service;

/// One runtime for the whole process: the shared shop must outlive the test that started it.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new().unwrap_or_else(|error| panic!("no runtime: {error}")));
static SHARED: OnceCell<World> = OnceCell::const_new();

/// How long anything may take to end: generous, because it is a net and not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The services that tell events.
pub const TELLERS: [Service; 5] = [
    Service::Order,
    Service::Payment,
    Service::Inventory,
    Service::Warehouse,
    Service::Email,
];

/// How many services hear an event of this name.
pub fn listeners(event: &str) -> usize {
    let heard = |service: &Service| {
        let mut subjects = service.hears().subjects.into_values().flatten();
        subjects.any(|subject| subject.rsplit('.').next() == Some(event))
    };
    Service::ALL.iter().filter(|service| heard(service)).count()
}

/// Runs a test on the common runtime.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    RUNTIME.block_on(test)
}

/// A shop, a trace viewer beside it, and somebody who orders.
pub struct World {
    /// The processes.
    pub shop: Shop,
    /// Where their spans arrive.
    pub viewer: Viewer,
    /// Who orders.
    pub http: reqwest::Client,
}

impl World {
    /// The shop that all chain tests share.
    pub async fn shared() -> &'static Self {
        SHARED.get_or_init(|| async { Self::open(&[]).await }).await
    }

    /// A shop of one's own, to break things in; `env` is `(service, variable, value)`.
    pub async fn open(env: &[(Service, &str, &str)]) -> Self {
        Self::try_open(env, ShopOptions::default())
            .await
            .unwrap_or_else(|error| panic!("the shop did not open: {error:#}"))
    }

    /// A shop of one's own whose services reach database and broker through links that can be made to fail.
    pub async fn open_linked(env: &[(Service, &str, &str)]) -> Self {
        let options = ShopOptions {
            proxied: true,
            ..ShopOptions::default()
        };
        Self::try_open(env, options)
            .await
            .unwrap_or_else(|error| panic!("the shop did not open: {error:#}"))
    }

    /// A shop of one's own whose broker lets everybody in, to start beside it what it does not know; it is kept if there is
    /// a folder for it.
    pub async fn open_to_all(home: Option<PathBuf>) -> Self {
        Self::open_in(home, false).await
    }

    /// A shop of one's own, kept in this folder.
    pub async fn open_kept(home: PathBuf) -> Self {
        Self::open_in(Some(home), true).await
    }

    async fn open_in(home: Option<PathBuf>, secured: bool) -> Self {
        let options = ShopOptions {
            home,
            secured,
            ..ShopOptions::default()
        };
        Self::try_open(&[], options)
            .await
            .unwrap_or_else(|error| panic!("the shop did not open: {error:#}"))
    }

    /// A shop of one's own whose broker gives up after so many deliveries, each of so long.
    pub async fn open_impatient(ack_wait: Duration, max_deliver: i64) -> Self {
        let provision = Settings {
            ack_wait,
            max_deliver,
            ..Settings::default()
        };
        let options = ShopOptions {
            provision,
            ..ShopOptions::default()
        };
        Self::try_open(&[], options)
            .await
            .unwrap_or_else(|error| panic!("the shop did not open: {error:#}"))
    }

    /// A shop of one's own whose broker is three servers, which deliver again soon what nobody acknowledged.
    pub async fn open_clustered() -> Self {
        let provision = Settings {
            ack_wait: Duration::from_secs(10),
            ..Settings::default()
        };
        let options = ShopOptions {
            brokers: 3,
            provision,
            ..ShopOptions::default()
        };
        Self::try_open(&[], options)
            .await
            .unwrap_or_else(|error| panic!("the shop did not open: {error:#}"))
    }

    async fn try_open(env: &[(Service, &str, &str)], options: ShopOptions) -> anyhow::Result<Self> {
        let viewer = Viewer::start(trace_viewer::Options::on_free_ports()).await?;
        let otlp = format!("http://{}", viewer.otlp_addr());
        let mut env: Vec<_> = env
            .iter()
            .map(|(s, name, value)| (*s, (*name).to_owned(), (*value).to_owned()))
            .collect();
        // `SHOP_RELAY=cdc cargo test -p e2e-tests` runs every test with the other relay.
        if let Ok(relay) = std::env::var("SHOP_RELAY") {
            env.extend(TELLERS.map(|service| (service, "RELAY".into(), relay.clone())));
        }
        // A gateway that stays down is given up soon, so that tests need not wait half a minute; a link that dies in silence
        // may cost longer than that.
        let patience = if options.proxied { "60000" } else { "3000" };
        env.push((Service::Payment, "PAYMENT_GIVE_UP_AFTER_MS".into(), patience.into()));
        let shop = Shop::start(ShopOptions {
            env,
            otlp: Some(otlp),
            forger: true,
            ..options
        })
        .await?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(15)).build()?;
        let world = Self { shop, viewer, http };
        world.catalogue_is_known().await?;
        Ok(world)
    }

    /// The order service has its copy of the catalogue, so that inventory may go away.
    async fn catalogue_is_known(&self) -> anyhow::Result<()> {
        let pool = self.pool(Service::Order).await?;
        self.until("order knows the catalogue", || async {
            let known: i64 = sqlx::query_scalar("select count(*) from catalogue where available > 0")
                .fetch_one(&pool)
                .await?;
            Ok((known == 20).then_some(()))
        })
        .await
    }

    /// A connection to a service's database, for looking.
    pub async fn pool(&self, service: Service) -> anyhow::Result<sqlx::PgPool> {
        Ok(sqlx::PgPool::connect(&self.shop.database_url(service)).await?)
    }

    /// Gets JSON from a service; any status.
    pub async fn get(&self, service: Service, path: &str) -> anyhow::Result<Value> {
        let response = self
            .http
            .get(format!("{}{path}", self.shop.url(service)))
            .send()
            .await?;
        Ok(response.json().await?)
    }

    /// An order as it is now.
    pub async fn order(&self, id: Uuid) -> anyhow::Result<Value> {
        self.get(Service::Order, &format!("/v1/orders/{id}")).await
    }

    /// An order once it is terminal.
    pub async fn ended(&self, id: Uuid) -> Value {
        let what = format!("order {id} is terminal");
        let looked = self.until(&what, || async {
            let order = self.order(id).await?;
            let ended = ["COMPLETED", "CANCELLED", "REFUNDED"].contains(&order["state"].as_str().unwrap_or_default());
            Ok(ended.then_some(order))
        });
        match looked.await {
            Ok(order) => order,
            Err(error) => panic!(
                "{error:#}\nsaga: {:#}",
                self.get(Service::Order, &format!("/v1/orders/{id}/saga"))
                    .await
                    .unwrap_or_default()
            ),
        }
    }

    /// An order once it is in this state, or past it.
    pub async fn reached(&self, id: Uuid, state: &str) -> Value {
        let what = format!("order {id} is {state}");
        let reached = self.until(&what, || async {
            let order = self.order(id).await?;
            Ok((order["state"] == state).then_some(order))
        });
        reached.await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Names of the events of an order, by the time they were told.
    pub async fn timeline(&self, id: Uuid) -> Vec<String> {
        let timeline = self
            .get(Service::Order, &format!("/v1/orders/{id}/timeline"))
            .await
            .unwrap_or_default();
        let items = timeline["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .filter_map(|item| item["type"].as_str().map(str::to_owned))
            .collect()
    }

    /// Makes the broker deliver every event of every stream again, to everybody.
    pub async fn deliver_everything_again(&self) -> anyhow::Result<()> {
        let jetstream = self.jetstream().await?;
        for service in Service::ALL {
            for stream in service.hears().subjects.keys() {
                jetstream.delete_consumer_from_stream(service.name(), *stream).await?;
            }
        }
        self.provision().await
    }

    /// The broker as somebody who may do anything, to play whoever misbehaves.
    pub async fn jetstream(&self) -> anyhow::Result<jetstream::Context> {
        xtask::shop::jetstream(&self.shop.nats_url(FORGER)).await
    }

    /// Makes the streams and durables that are missing.
    pub async fn provision(&self) -> anyhow::Result<()> {
        xtask::shop::provision(&self.shop.nats_url(PROVISIONER), &Settings::default()).await
    }

    /// Awaits a condition; its errors (a service may be down) only count when patience runs out.
    pub async fn until<T, F>(&self, what: &str, condition: impl Fn() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<Option<T>>>,
    {
        let mut last = None;
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                match condition().await {
                    Ok(Some(found)) => return found,
                    Ok(None) => last = None,
                    Err(error) => last = Some(error),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        match waited.await {
            Ok(found) => Ok(found),
            Err(_) => {
                let because = last.map_or_else(|| "it never was".to_owned(), |error| format!("{error:#}"));
                Err(anyhow::anyhow!(because)).with_context(|| format!("waited {PATIENCE:?} until {what}"))
            }
        }
    }
}
