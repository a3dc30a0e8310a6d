//! The inventory service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    inventory::service(inventory::Config::from_env()).await?.run().await
}
