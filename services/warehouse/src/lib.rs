//! The warehouse service: a paid order is sent once, or called off in time, never both.

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

use clients::Carrier;
pub use config::Config;

/// The tables of this service and of the messaging core.
pub static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| messaging::migrations(sqlx::migrate!("../../migrations/warehouse")));

/// The service assembled: routes, reactions, relay, and the errands unless everything is done by hand.
pub async fn service(config: Config) -> anyhow::Result<Service> {
    let service = Service::start("warehouse", &config.chassis, &MIGRATIONS).await?;
    let (decisions, carrier) = (service.decisions(), Carrier);
    let app = api::App {
        db: service.db(),
        decisions: decisions.clone(),
        carrier,
    };
    let service = service
        .serve(api::routes(app))
        .consume(reactions::reactions())
        .never_replayed("a replay would hand every parcel to the carrier again")
        .publish_as(Owner::Warehouse);
    if !config.auto {
        return Ok(service);
    }
    let dispatch = tasks::Dispatch {
        decisions: decisions.clone(),
        carrier,
        delay: config.pick(),
    };
    let deliver = tasks::Deliver {
        decisions: decisions.clone(),
        delay: config.delivery(),
    };
    let take_back = tasks::TakeBack {
        decisions,
        delay: config.return_delay(),
    };
    Ok(service.run_errand(dispatch).run_errand(deliver).run_errand(take_back))
}
