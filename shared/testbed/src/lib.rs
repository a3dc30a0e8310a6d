//! Private PostgreSQL clusters and nats-servers, for the tests of every crate and for the launcher.
//!
//! Each server lives in a folder of its own, listens on 127.0.0.1 only, and dies with the process
//! that started it, even when that one is killed with -9. Missing programs are installed.
//!
//! ```no_run
//! # async fn example(migrator: &sqlx::migrate::Migrator) -> anyhow::Result<()> {
//! let db = testbed::database(migrator).await;                          // one cluster per test process
//! let broker = testbed::Nats::start(testbed::Place::temporary()).await?; // a broker of one's own
//! broker.kill().await?;
//! broker.restart().await?;
//! # Ok(()) }
//! ```

mod cluster;
mod databases;
mod disk;
mod faketime;
mod install;
mod k6;
mod nats;
mod place;
mod ports;
mod postgres;
mod process;
mod prometheus;
mod proxy;
mod roles;
mod scratch;
mod supervisor;
mod tools;

pub use cluster::Cluster;
pub use databases::{database, database_url, nats, postgres};
pub use disk::Disk;
pub use faketime::faketime;
pub use k6::k6;
pub use nats::Nats;
pub use place::{Durability, Place};
pub use ports::free_port;
pub use postgres::Postgres;
pub use process::Process;
pub use prometheus::Prometheus;
pub use proxy::{Proxy, When};
pub use scratch::Scratch;
pub use tools::Tools;

/// Runs what blocks away from the runtime, so that nothing started is bound to that runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}
