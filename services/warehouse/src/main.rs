//! The warehouse service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    warehouse::service(warehouse::Config::from_env()).await?.run().await
}
