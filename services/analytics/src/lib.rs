//! The analytics service: hears everything, says nothing, and knows how the shop is doing.

pub mod api;
mod config;
pub mod domain;
pub mod reactions;
pub mod store;

use std::sync::LazyLock;

use chassis::Service;
use sqlx::migrate::Migrator;

pub use config::Config;

/// The tables of this service and of the messaging core.
pub static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| messaging::migrations(sqlx::migrate!("../../migrations/analytics")));

/// The service assembled: routes and reactions, and their replay. It owns no stream, so it has no relay.
pub async fn service(config: Config) -> anyhow::Result<Service> {
    let service = Service::start("analytics", &config.chassis, &MIGRATIONS).await?;
    let app = api::App { db: service.db() };
    service
        .serve(api::routes(app))
        .consume(reactions::reactions())
        .replayable(reactions::reactions(), store::PROJECTION, config.owner_database_url())
}
