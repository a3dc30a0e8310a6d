//! `cargo shop`: the whole shop on one machine, for people and for end-to-end tests.
//!
//! [`Shop`](shop::Shop) is a PostgreSQL cluster, a broker, the sandbox gateway and the six service binaries, as real
//! processes that end with the process that started them, even when that one is killed with -9. A test starts one in
//! a temporary folder on free ports:
//!
//! ```no_run
//! use xtask::shop::{Service, Shop, ShopOptions};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let mut options = ShopOptions::default();
//! options.env.push((Service::Warehouse, "WAREHOUSE_AUTO".into(), "false".into()));
//! let shop = Shop::start(options).await?;                   // ready, twenty products in stock
//! let orders = format!("{}/v1/orders", shop.url(Service::Order));
//! shop.kill(Service::Payment).await?;                       // kill -9 of that process
//! shop.start_service(Service::Payment).await?;              // the same port, the same database; returns once ready
//! shop.pause(Service::Email).await?;                        // SIGSTOP
//! shop.resume(Service::Email).await?;
//! shop.nats().kill().await?;                                // servers: kill, stop, restart
//! shop.nats().restart().await?;
//! shop.drained(std::time::Duration::from_secs(30)).await?;  // nothing is on its way any more
//! shop.shutdown().await
//! # }
//! ```
//!
//! The binaries are those beside the test's own: `cargo build --workspace --bins` comes first.

#[cfg(feature = "shop")]
pub mod audit;
#[cfg(feature = "shop")]
pub mod chaos;
pub mod failures;
#[cfg(feature = "shop")]
pub mod k6;
#[cfg(feature = "shop")]
pub mod shop;
