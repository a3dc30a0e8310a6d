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

use chassis::{InFlight, Service};
use events::Owner;
use sqlx::migrate::Migrator;

pub use config::Config;

/// The tables of this service and of the messaging core.
pub static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| messaging::migrations(sqlx::migrate!("../../migrations/order")));

/// The service assembled: routes, reactions, relay, the sweeper of overdue orders, and what else it does
/// unasked.
pub async fn service(config: Config) -> anyhow::Result<Service> {
    let service = Service::start("order", &config.chassis, &MIGRATIONS).await?;
    let patience = config.patience();
    let budget = Duration::from_millis(config.stock_check_timeout_ms);
    let app = api::App {
        db: service.db(),
        decisions: service.decisions(),
        inventory: clients::Inventory::at(&config.inventory_url, budget)?,
        pay_within: Duration::from_millis(config.pay_within_ms),
        patience,
        in_flight: InFlight::start(&service.db()),
        followed: api::Followed::default(),
    };
    let sweep = tasks::CancelOverdue {
        decisions: app.decisions.clone(),
    };
    let (db, followed) = (service.db(), app.followed.clone());
    let (tell, forget) = (db.clone(), db.clone());
    Ok(service
        .serve(api::routes(app))
        .consume(reactions::reactions())
        .never_replayed("a replay would decide every order again and tell of it again")
        .publish_as(Owner::Order)
        .run_errand(sweep)
        .run_task(|shutdown| followed.tell(tell, shutdown))
        .run_task(|shutdown| tasks::forget_keys(forget, shutdown))
        .run_task(|shutdown| tasks::measure_sagas(db, patience, shutdown)))
}
