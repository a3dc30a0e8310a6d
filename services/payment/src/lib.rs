//! The payment service: charges once, remembers every step, and pays back whatever an undone order cost.

pub mod api;
pub mod clients;
mod config;
pub mod domain;
pub mod reactions;
pub mod store;
pub mod tasks;

use std::sync::LazyLock;

use chassis::Service;
use events::Owner;
use sqlx::migrate::Migrator;

pub use config::{Config, Patience};

/// The tables of this service and of the messaging core.
pub static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| messaging::migrations(sqlx::migrate!("../../migrations/payment")));

/// The service assembled: routes, reactions, relay, errands.
pub async fn service(config: Config) -> anyhow::Result<Service> {
    let service = Service::start("payment", &config.chassis, &MIGRATIONS).await?;
    let patience = config.patience();
    let gateway = clients::Gateway::at(&config.gateway_url, config.gateway_key, patience.call)?;
    let decisions = service.decisions();
    let app = api::App {
        db: service.db(),
        decisions: decisions.clone(),
        webhook_secret: config.gateway_webhook_secret,
    };
    let charge = tasks::Charge {
        decisions: decisions.clone(),
        gateway: gateway.clone(),
        patience,
    };
    let refund = tasks::Refund {
        decisions: decisions.clone(),
        gateway: gateway.clone(),
        patience,
    };
    let refund_return = tasks::RefundReturn {
        decisions,
        gateway,
        patience,
    };
    let db = service.db();
    Ok(service
        .serve(api::routes(app))
        .consume(reactions::reactions())
        .never_replayed("a replay would charge and pay back again")
        .publish_as(Owner::Payment)
        .run_errand(charge)
        .run_errand(refund)
        .run_errand(refund_return)
        .run_task(|shutdown| tasks::measure_refunds(db, shutdown)))
}
