//! The order service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    order::service(order::Config::from_env()).await?.run().await
}
