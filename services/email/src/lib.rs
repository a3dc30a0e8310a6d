//! The email service: tells customers what became of their orders, each thing once.

pub mod api;
pub mod clients;
mod config;
pub mod domain;
pub mod reactions;
pub mod store;
pub mod tasks;
pub mod templates;

use std::sync::LazyLock;

use chassis::Service;
use events::Owner;
use sqlx::migrate::Migrator;

pub use config::{Config, MailConfig};

/// The tables of this service and of the messaging core.
pub static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| messaging::migrations(sqlx::migrate!("../../migrations/email")));

/// The service assembled: routes, reactions, the errand that sends, relay.
pub async fn service(config: Config) -> anyhow::Result<Service> {
    let mailer = clients::Mailer::new(&config.mail)?;
    let service = Service::start("email", &config.chassis, &MIGRATIONS).await?;
    let app = api::App { db: service.db() };
    let send = tasks::SendMail {
        decisions: service.decisions(),
        mailer,
    };
    Ok(service
        .serve(api::routes(app))
        .consume(reactions::reactions())
        .never_replayed("a replay would mail every customer again")
        .run_errand(send)
        .publish_as(Owner::Email))
}
