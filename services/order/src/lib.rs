//! The order service: takes orders, and owns their state from the first event to the last.

pub mod api;
pub mod clients;
mod config;
pub mod domain;
pub mod reactions;
pub mod store;
pub mod tasks;

use std::sync::LazyLock;
use std::time::Duration;

use chassis::Service;
use events::Owner;
use sqlx::migrate::Migrator;

pub use config::Config;

/// The tables of this service and of the messaging core.
pub static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| messaging::migrations(sqlx::migrate!("../../migrations/order")));

/// The service assembled: routes, reactions, relay, and the sweeper of overdue orders.
pub async fn service(config: Config) -> anyhow::Result<Service> {
    let service = Service::start("order", &config.chassis, &MIGRATIONS).await?;
    let budget = Duration::from_millis(config.stock_check_timeout_ms);
    let app = api::App {
        db: service.db(),
        decisions: service.decisions(),
        inventory: clients::Inventory::at(&config.inventory_url, budget)?,
        pay_within: Duration::from_millis(config.pay_within_ms),
    };
    let sweep = tasks::CancelOverdue {
        decisions: app.decisions.clone(),
    };
    Ok(service
        .serve(api::routes(app))
        .consume(reactions::reactions())
        .publish_as(Owner::Order)
        .run_errand(sweep))
}
