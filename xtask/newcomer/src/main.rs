//! The newcomer service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    newcomer::service(newcomer::Config::from_env()).await?.run().await
}
