//! The inventory service: products, prices, stock and reservations. It never oversells.

pub mod api;
mod config;
pub mod domain;
pub mod reactions;
pub mod store;

use std::sync::LazyLock;

use chassis::Service;
use events::Owner;
use sqlx::migrate::Migrator;

pub use config::Config;

/// The tables of this service and of the messaging core.
pub static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| messaging::migrations(sqlx::migrate!("../../migrations/inventory")));

/// The service assembled: routes, reactions, relay.
pub async fn service(config: Config) -> anyhow::Result<Service> {
    let service = Service::start("inventory", &config.chassis, &MIGRATIONS).await?;
    let app = api::App {
        db: service.db(),
        decisions: service.decisions(),
    };
    Ok(service
        .serve(api::routes(app))
        .consume(reactions::reactions())
        .never_replayed("a replay would hold and sell every piece again")
        .publish_as(Owner::Inventory))
}
