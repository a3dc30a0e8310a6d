//! The analytics service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    analytics::service(analytics::Config::from_env()).await?.run().await
}
